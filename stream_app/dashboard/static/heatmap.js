// The PSI heat map, and the distributions of one feature.
import { bars } from "./charts.js";
import { byId, make, number, time } from "./dom.js";

let chosen = null; // name of the feature whose distributions are shown

export async function drawHeat() {
  const window_ = byId("window").value;
  const answer = await fetch(`/drift?window=${encodeURIComponent(window_)}`);
  if (!answer.ok) return;
  const map = await answer.json();
  const kept = document.activeElement?.dataset?.feature;
  byId("heat").replaceChildren(map.until_ms.length ? tableOf(map) : make("p", { class: "muted" }, "No evaluation yet."));
  if (kept) [...document.querySelectorAll("#heat button")].find((b) => b.dataset.feature === kept)?.focus();
  if (chosen) await drawFeature(chosen, false);
}

function tableOf(map) {
  const spans = [];
  map.versions.forEach((version, i) => {
    const last = spans.at(-1);
    if (last && last.version === version) last.n += 1;
    else spans.push({ version, n: 1, from: map.until_ms[i] });
  });
  const days = spans.map((s) => make("th", { colspan: s.n, scope: "colgroup" }, `v${s.version}, from ${time(s.from, true)}`));
  const head = make("tr", {}, make("th", { scope: "col" }, "feature"), make("th", { scope: "col" }, "threshold"), ...days);
  const rows = map.rows.map((row) => {
    const button = make("button", { "data-feature": row.feature, "aria-controls": "feature" }, row.feature);
    const cells = row.psi.map((psi, i) => cell(row, psi, i, map));
    const tr = make("tr", {}, make("th", { scope: "row" }, button), make("td", { class: "figure" }, number(row.tolerance, 3)), ...cells);
    tr.addEventListener("click", () => drawFeature(row.feature, true));
    return tr;
  });
  return make("table", { class: "heat" }, make("caption", { class: "hidden" }, `PSI by feature over ${map.window}, newest last`), make("thead", {}, head), make("tbody", {}, ...rows));
}

function cell(row, psi, i, map) {
  const over = row.exceeds[i];
  const beyond = row.beyond_chance[i];
  const level = psi === null ? "none" : over ? "over" : `h${step(beyond / (row.tolerance ?? 0.1))}`;
  const words = `${row.feature}, until ${time(map.until_ms[i], true)}: PSI ${number(psi, 3)}, beyond chance ${number(beyond, 3)}, lower bound ${number(row.lower_bound[i], 3)}`;
  return make("td", { class: level, title: words }, over ? "▲" : "");
}

const step = (ratio) => (ratio < 0.5 ? 0 : ratio < 0.8 ? 1 : ratio < 1 ? 2 : 3);

export async function drawFeature(name, moved) {
  chosen = name;
  const query = new URLSearchParams({ name, window: byId("window").value });
  const answer = await fetch(`/feature?${query}`);
  const found = await answer.json();
  byId("feature").hidden = !answer.ok;
  byId("feature-none").textContent = answer.ok ? "" : `${name}: ${found.error}`;
  if (!answer.ok) return;
  byId("feature-head").textContent = `${found.feature}, ${found.window} until ${time(found.until_ms, true)}`;
  const words = `PSI ${number(found.psi, 3)}, lower bound ${number(found.lower_bound, 3)}; alerts above ${number(found.tolerance, 3)}. ` +
    `${number(found.histogram.rows)} rows against the training data of version ${found.model_version}.`;
  byId("feature-words").textContent = words;
  byId("feature-chart").setAttribute("aria-label", `${found.feature}, reference and current. ${words}`);
  bars("feature-chart", found.histogram);
  if (moved) byId("feature-head").focus();
}
