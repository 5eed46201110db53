// Charts drawn with uPlot, in the page's colours.
import { byId, time } from "./dom.js";

const HEIGHT = 200;
const charts = new Map(); // id -> {plot, draw}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function axes(label) {
  const common = () => ({ stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } });
  return [{ ...common(), ...label }, { ...common(), size: 54, values: (_, marks) => marks.map((m) => m.toLocaleString("en")) }];
}

// Creates a new plot when theme or width change; otherwise only sets its data.
function plot(id, kind, values, options) {
  const place = byId(id);
  const width = place.clientWidth;
  if (!width) return;
  let chart = charts.get(id);
  if (!chart || chart.kind !== kind || chart.width !== width) {
    chart?.plot.destroy();
    chart = { kind, width, plot: new uPlot({ ...options(), width, height: HEIGHT }, values, place) };
    charts.set(id, chart);
  } else {
    chart.plot.setData(values);
  }
  chart.again = () => plot(id, kind, values, options);
}

export function forget() {
  for (const chart of charts.values()) {
    chart.plot.destroy();
    chart.kind = null;
  }
  for (const chart of [...charts.values()]) chart.again();
}

new ResizeObserver(() => charts.forEach((chart) => chart.again())).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forget);

let marks = []; // times of promotions and rollbacks, in seconds

export function lines(id, at, series, changes = []) {
  marks = changes;
  plot(id, "lines", [at, ...series.map((s) => s.values)], () => ({
    legend: { live: false },
    cursor: { show: false },
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.1 || 1)] } },
    axes: axes({ values: (_, moments) => moments.map((m) => time(m * 1000)), space: 90 }),
    series: [{}, ...series.map((s) => ({
      label: s.label, stroke: colour(s.colour), width: 2, spanGaps: false, dash: s.dash,
      fill: s.fill ? colour(s.fill) : undefined, points: { show: s.points ?? false, size: 4 },
    }))],
    hooks: { draw: [drawMarks] },
  }));
}

function drawMarks(u) {
  const { ctx } = u;
  ctx.save();
  ctx.strokeStyle = colour("--accent");
  ctx.setLineDash([4, 4]);
  for (const moment of marks) {
    const x = u.valToPos(moment, "x", true);
    if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, u.bbox.top);
    ctx.lineTo(x, u.bbox.top + u.bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

// Shortens a bin label: three significant digits, at most 15 characters.
function short(label) {
  const text = label.replace(/-?\d+\.\d+/g, (digits) => Number(Number(digits).toPrecision(3)));
  return text.length > 15 ? `${text.slice(0, 14)}…` : text;
}

// Two distributions side by side, in percent.
export function bars(id, histogram) {
  const share = (values) => values.map((v) => 100 * v);
  const { labels } = histogram;
  const every = Math.ceil(labels.length / Math.max(1, byId(id).clientWidth / 32)); // thinned so that labels do not overlap
  plot(
    id,
    `bars ${JSON.stringify(labels)}`,
    [labels.map((_, i) => i), share(histogram.reference), share(histogram.current)],
    () => ({
      legend: { live: false },
      cursor: { show: false },
      scales: { x: { time: false, range: [-0.6, labels.length - 0.4] }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
      axes: axes({
        splits: () => labels.map((_, i) => i), values: (_, at) => at.map((i) => (i % every ? "" : short(labels[i]))), rotate: -50, size: 86,
      }),
      series: [
        {},
        { label: "reference, %", stroke: colour("--muted"), fill: colour("--bar"), paths: uPlot.paths.bars({ size: [0.4, 40], align: -1 }), points: { show: false } },
        { label: "current, %", stroke: colour("--accent"), fill: colour("--accent"), paths: uPlot.paths.bars({ size: [0.4, 40], align: 1 }), points: { show: false } },
      ],
    }),
  );
}
