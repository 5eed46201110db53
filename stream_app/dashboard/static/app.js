// Receives one state a second by server-sent events. Each part of the page is redrawn when its data changed.
import { drawApprovals } from "./approval.js";
import { bars, lines } from "./charts.js";
import { blockCards } from "./changes.js";
import { byId, make, number, show, table, time } from "./dom.js";
import { drawFeature, drawHeat } from "./heatmap.js";
import { refreshQueue, startReview } from "./review.js";
import { refreshRules, startRules } from "./rules.js";
import { shownView, startViews } from "./views.js";

const STALE_MS = 5000;
const MOVED = new Set(["promoted", "rolled-back"]);
let receivedAt = 0; // by the browser's clock
let state = null;
let me = null; // the signed-in user, fetched once: another role requires another sign-in
let evaluations = -1;

async function start() {
  const answer = await fetch("/me").catch(() => null);
  if (answer?.status === 401) location.assign("/signin");
  else if (!answer?.ok) setTimeout(start, 2000);
  else {
    me = await answer.json();
    byId("signout").hidden = me.user === null;
    byId("user").textContent = me.user ?? "";
    startReview(me);
    startRules(me);
    startViews(() => { refreshShown(); if (state) draw(); });
    listen();
  }
}

function listen() {
  const source = new EventSource("/events");
  source.onmessage = (event) => {
    receivedAt = performance.now();
    state = JSON.parse(event.data);
    if (!document.hidden) draw();
  };
  source.onerror = async () => {
    if (source.readyState !== EventSource.CLOSED) return; // the browser reconnects by itself
    source.close();
    const answer = await fetch("/state").catch(() => null);
    if (answer?.status === 401) location.assign("/signin");
    else setTimeout(listen, 2000);
  };
}

function draw() {
  byId("model").textContent = state.model;
  byId("waiting-count").textContent = state.reviews_waiting ? number(state.reviews_waiting) : "";
  drawStatus();
  refreshShown();
  if (shownView() !== "overview") return;
  drawFigures();
  drawApprovals(state.pending_approvals, me.may_approve);
  show("incidents", state.incidents, drawIncidents);
  drawCharts();
  show("outcomes", [state.outcomes, state.dead_letters], drawOutcomes);
  show("events", state.events, drawEvents);
  show("recent", state.recent, drawRecent);
  byId("notices").textContent = [
    state.skipped_records ? `${number(state.skipped_records)} invalid records on Tamiz topics were skipped.` : "",
    state.unread_decisions ? `${number(state.unread_decisions)} decisions were counted but not read, because the dashboard lagged.` : "",
    state.registry_inconsistency ? `The registry is inconsistent: ${state.registry_inconsistency}.` : "",
    state.registry_error ? `Pending approvals are not known: ${state.registry_error}` : "",
  ].join(" ");
  if (state.evaluations !== evaluations) {
    evaluations = state.evaluations;
    drawHeat();
  }
}

function refreshShown() {
  if (shownView() === "review") refreshQueue();
  if (shownView() === "rules") refreshRules();
}

function drawStatus() {
  const silent = performance.now() - receivedAt;
  const pill = byId("status");
  const [kind, words] = !state
    ? ["stale", "connecting"]
    : silent > STALE_MS
      ? ["stale", `stale: no data since ${time(state.now_ms)}`]
      : state.reading_error
        ? ["stale", `stale: ${state.reading_error}`]
        : ["live", "live"];
  document.body.dataset.status = kind;
  if (pill.textContent !== words) pill.textContent = words;
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
const lastKnown = (values) => values.slice(-30).findLast((v) => v !== null) ?? null;

function drawFigures() {
  const { seconds, outcomes } = state;
  const total = Object.values(outcomes).reduce((a, b) => a + b, 0);
  const share = (outcome) => (total ? `${number((100 * (outcomes[outcome] ?? 0)) / total, 2)} %` : "–");
  const deciding = Object.entries(state.versions).sort((a, b) => b[1] - a[1])[0]?.[0];
  const figures = [
    ["decisions per second", number(mean(seconds.decisions.slice(-10)), 1)],
    ["latency p50", withUnit(lastKnown(seconds.p50_ms))],
    ["latency p99", withUnit(lastKnown(seconds.p99_ms))],
    ["sent to review", share("review")],
    ...(outcomes.challenge ? [["challenged", share("challenge")]] : []),
    ["declined", share("decline")],
    ["dead letters", number(Object.values(state.dead_letters).reduce((a, b) => a + b, 0))],
    ["model version", deciding ? `v${deciding}` : "–"],
    ["open incidents", number(state.incidents.length)],
  ];
  show("figures", figures, () => figures.map(([name, value]) => make("div", { class: "card" }, make("b", {}, value), make("span", { class: "muted" }, name))));
}

const withUnit = (ms) => (ms === null ? "–" : `${number(ms, 0)} ms`);

function drawCharts() {
  const { seconds } = state;
  const at = seconds.at_ms.map((ms) => ms / 1000);
  const changes = state.events.filter((e) => MOVED.has(e.change)).map((e) => e.happened_at_ms / 1000);
  lines("rate", at, [
    { label: "decisions", values: seconds.decisions, colour: "--accent", fill: "--fill" },
    { label: "dead letters", values: seconds.dead_letters, colour: "--bad", dash: [6, 4] },
  ], changes);
  byId("rate").setAttribute("aria-label", `Decisions per second, mean of the last 10 s: ${number(mean(seconds.decisions.slice(-10)), 1)}`);
  lines("latency", at, [
    { label: "p50", values: seconds.p50_ms, colour: "--accent", points: true },
    { label: "p99", values: seconds.p99_ms, colour: "--bad", points: true, dash: [6, 4] },
  ], changes);
  byId("latency").setAttribute("aria-label", `Latency now: p50 ${withUnit(lastKnown(seconds.p50_ms))}, p99 ${withUnit(lastKnown(seconds.p99_ms))}`);
  byId("score-none").hidden = state.score !== null;
  byId("score").hidden = state.score === null;
  if (state.score === null) return;
  byId("score-rows").textContent = `last ${number(state.score.rows)} decisions against the training data`;
  byId("score").setAttribute("aria-label", `Scores, reference and now: ${state.score.labels.map((label, i) => `${label} ${number(100 * state.score.reference[i], 1)} and ${number(100 * state.score.current[i], 1)} %`).join("; ")}`);
  bars("score", state.score);
}

function drawIncidents(incidents) {
  if (!incidents.length) return [make("p", { class: "muted" }, "None.")];
  return [make("ul", { class: "incidents" }, ...incidents.map((one) => make(
    "li", { class: one.severity },
    make("p", {}, make("b", { class: "tag" }, `${one.severity}, ${one.kind}`), " ", one.summary),
    make("p", { class: "muted" }, `open since ${time(one.opened_at_ms, true)} (event time), model version ${one.model_version}; `,
      ...one.features.slice(0, 5).map((feature) => {
        const button = make("button", { class: "link" }, feature);
        button.addEventListener("click", () => drawFeature(feature, true));
        return button;
      })),
    ...(one.cards.length && me.may_review ? [blockButton(one)] : []),
  )))];
}

function blockButton(incident) {
  const button = make("button", { type: "button", class: "danger" }, incident.cards.length === 1 ? "Block this card" : `Block these ${incident.cards.length} cards`);
  button.addEventListener("click", async () => {
    const words = await blockCards(incident.cards, `incident ${incident.incident_id}`);
    if (words) byId("incidents-result").textContent = words;
  });
  return make("p", {}, button, make("span", { class: "muted" }, ` ${incident.cards.slice(0, 5).join(", ")}${incident.cards.length > 5 ? ", …" : ""}`));
}

function drawOutcomes([outcomes, deadLetters]) {
  const all = Object.values(outcomes).reduce((a, b) => a + b, 0);
  const row = (kind, name, n, of) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "figure" }, number(n)),
    make("td", {}, make("meter", { class: kind, min: 0, max: Math.max(1, of), value: n, "aria-label": `${name}, share` })), make("td", { class: "figure" }, `${number((100 * n) / Math.max(1, of), 2)} %`));
  const dead = Object.entries(deadLetters).sort((a, b) => b[1] - a[1]);
  const rows = ["approve", "review", "challenge", "decline"].map((name) => row(name, name, outcomes[name] ?? 0, all));
  const deadRows = dead.map(([code, n]) => row("dead", `dead letter: ${code}`, n, all + dead.reduce((sum, [, m]) => sum + m, 0)));
  return [table(["outcome", "count", "", "share"], [...rows, ...deadRows], "Decisions by outcome, dead letters by code")];
}

function drawEvents(events) {
  if (!events.length) return [make("li", { class: "muted" }, "No model events yet.")];
  return events.slice(0, 15).map((event) => make(
    "li", { class: MOVED.has(event.change) ? "moved" : null },
    make("time", {}, time(event.happened_at_ms, true)), " ",
    make("b", {}, event.model_version === null ? event.change : `version ${event.model_version} ${event.change}`),
    make("p", { class: "muted" }, `${event.reason} (${event.by})`),
  ));
}

function drawRecent(recent) {
  const rows = recent.map((one) => make(
    "tr", {},
    make("td", {}, time(one.decided_at_ms)), make("td", { class: `outcome ${one.outcome}` }, one.outcome),
    make("td", { class: "figure" }, number(one.score, 4)), make("td", { class: "id" }, one.transaction_id),
    make("td", { class: "reasons" }, one.reasons.join("; ")),
  ));
  return [table(["time", "outcome", "score", "transaction", "reasons"], rows, "Recent decisions, newest first")];
}

byId("window").addEventListener("change", drawHeat);
document.addEventListener("visibilitychange", () => { if (!document.hidden && state) draw(); });
setInterval(drawStatus, 1000);
start();
