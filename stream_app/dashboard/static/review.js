// The review queue: a list of cases, one open case, verdicts by button or key.
import { blockCards, call } from "./changes.js";
import { byId, make, money, number, table, time } from "./dom.js";
import { caseFacts, reasonsOf, rulesOf, summaryOf } from "./review_case.js";
import { shownView } from "./views.js";

const REFRESH_MS = 3000;
const OPEN_DELAY_MS = 200; // a case that is only passed by j or k is not claimed
const RENEW_MS = 45000; // of a claim; it ends after two minutes
const PAGE = 50;
const MAX_SHOWN = 200;
const VERDICTS = { f: ["fraud", "Fraud", "danger"], l: ["legitimate", "Legitimate", "main"], u: ["not-sure", "Not sure", "unsure"] };

let me = null;
let cases = [];
let openId = null; // the open case; it may have left the queue
let opened = null; // its answer; null until it is read
let lastJudged = null;
let shown = PAGE;
let refreshedAt = -Infinity;
let asked = 0; // number of the last request for the list; older answers are dropped
let timer = 0;
let busy = false;

export function startReview(user) {
  me = user;
  byId("queue-filter").addEventListener("input", () => { shown = PAGE; refreshQueue(true); });
  byId("queue-filter").addEventListener("submit", (event) => event.preventDefault());
  byId("queue").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(button.dataset.id);
  });
  byId("queue-more").addEventListener("click", () => { shown = Math.min(MAX_SHOWN, shown + PAGE); refreshQueue(true); });
  byId("case").addEventListener("click", (event) => {
    const verdict = event.target.closest("button[data-verdict]")?.dataset.verdict;
    if (verdict) judge(verdict);
    if (event.target.closest("button[data-block]")) block();
  });
  byId("case-back").addEventListener("click", () => showPart("queue"));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  document.addEventListener("keydown", onKey);
  setInterval(() => { if (openId && shownView() === "review" && !document.hidden) claim(openId); }, RENEW_MS);
  showPart("queue");
  addEventListener("hashchange", openByAddress);
  openByAddress();
}

function openByAddress() {
  const [view, id] = location.hash.slice(1).split("/");
  if (view === "review" && id && decodeURIComponent(id) !== openId) open(decodeURIComponent(id));
}

const showPart = (part) => { byId("view-review").dataset.open = part; };

export async function refreshQueue(now = false) {
  if (!now && performance.now() - refreshedAt < REFRESH_MS) return;
  refreshedAt = performance.now();
  const form = new FormData(byId("queue-filter"));
  const query = new URLSearchParams({ limit: shown, order: form.get("order") });
  if (form.get("show") === "unsure") query.set("state", "unsure");
  else query.set("outcome", form.get("show"));
  for (const name of ["reason", "rule", "card"]) if (form.get(name).trim()) query.set(name, form.get(name).trim());
  asked += 1;
  const mine = asked;
  const { ok, said } = await call(`/v1/reviews?${query}`);
  if (mine !== asked) return;
  if (!ok) {
    byId("queue-notice").textContent = said.error;
    return;
  }
  cases = said.cases;
  byId("queue-count").textContent = `${number(said.matching)} listed, ${number(said.waiting)} wait for a verdict`;
  byId("queue-notice").textContent = notices(said);
  byId("queue-more").hidden = said.next === null || shown >= MAX_SHOWN;
  drawQueue();
}

function notices(page) {
  return [
    page.error ? `The list is old: ${page.error}.` : "",
    page.cut ? `${number(page.cut)} older cases were cut: the queue holds a limited number.` : "",
    page.unread ? `${number(page.unread)} older decisions were not read.` : "",
    page.next !== null && shown >= MAX_SHOWN ? `The first ${MAX_SHOWN} of ${number(page.matching)}; filter to see others.` : "",
    page.matching ? "" : "No case matches: nothing waits here.",
  ].join(" ");
}

function drawQueue() {
  const list = byId("queue");
  const hadFocus = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  list.replaceChildren(...cases.map((one) => make(
    "li", {},
    make("button", { class: one.outcome, "data-id": one.id, "aria-current": one.id === openId ? "true" : null }, ...summaryOf(one, me)),
  )));
  if (hadFocus) buttonOf(hadFocus)?.focus({ preventScroll: true });
}

const buttonOf = (id) => [...byId("queue").querySelectorAll("button")].find((button) => button.dataset.id === id);

function open(id) {
  openId = id;
  opened = null;
  byId("case-result").textContent = "";
  history.replaceState(null, "", `#review/${encodeURIComponent(id)}`);
  showPart("case");
  drawQueue();
  const button = buttonOf(id);
  button?.focus({ preventScroll: true });
  button?.scrollIntoView({ block: "nearest" });
  const known = cases.find((one) => one.id === id);
  if (known) drawCase({ case: known, loading: true });
  clearTimeout(timer);
  timer = setTimeout(() => read(id), OPEN_DELAY_MS);
}

async function read(id) {
  claim(id);
  const { ok, said } = await call(`/v1/reviews/${encodeURIComponent(id)}`);
  if (id !== openId) return;
  if (ok) {
    opened = said;
    drawCase(said);
  } else {
    byId("case").replaceChildren();
    byId("case-result").textContent = said.error;
  }
}

async function claim(id) {
  if (!me.may_review) return;
  const { ok, said } = await call(`/v1/reviews/${encodeURIComponent(id)}/claim`, {});
  if (!ok && id === openId) byId("case-result").textContent = said.error;
}

async function judge(verdict) {
  const id = openId;
  if (!id || busy || !me.may_review) return;
  busy = true;
  const position = cases.findIndex((one) => one.id === id);
  const { ok, said } = await call(`/v1/reviews/${encodeURIComponent(id)}/verdict`, { verdict });
  busy = false;
  if (!ok) {
    byId("case-result").textContent = said.error;
    return;
  }
  const name = (cases[position] ?? opened?.case)?.transaction_id ?? id;
  lastJudged = id;
  cases = cases.filter((one) => one.id !== id);
  const next = cases[Math.min(Math.max(position, 0), cases.length - 1)];
  if (next) open(next.id);
  else close();
  byId("case-result").replaceChildren(`${name}: ${said.verdict === "not-sure" ? "not sure" : said.verdict}. `, make("kbd", {}, "b"), " goes back to it.");
  refreshQueue(true);
}

async function block() {
  const one = opened?.case ?? cases.find((known) => known.id === openId);
  if (!one?.card || !me.may_review || byId("ask").open) return;
  const words = await blockCards([one.card], `review of ${one.transaction_id}`);
  if (words) byId("case-result").textContent = words;
}

function close() {
  openId = null;
  opened = null;
  history.replaceState(null, "", "#review");
  byId("case").replaceChildren(make("h2", { id: "case-head" }, "No case is open."));
  showPart("queue");
  drawQueue();
}

function drawCase(found) {
  const one = found.case;
  const kept = document.activeElement?.dataset?.verdict;
  byId("case").replaceChildren(
    make("h2", { id: "case-head" }, one.amount === null ? one.transaction_id : `${money(one.amount)} · ${one.transaction_id}`),
    verdictButtons(one),
    ...caseFacts(one),
    ...(one.decided_by === "model" ? [...reasonsOf(one), ...rulesOf(one)] : [...rulesOf(one), ...reasonsOf(one)]),
    ...(found.loading ? [make("p", { class: "muted" }, "Reading the transaction.")] : details(found)),
  );
  if (kept) byId("case").querySelector(`button[data-verdict="${kept}"]`)?.focus();
}

function verdictButtons(one) {
  if (!me.may_review) return make("p", { class: "muted" }, "Your role may not give verdicts; this needs the role review.");
  const buttons = Object.entries(VERDICTS).map(([key, [verdict, words, kind]]) => make(
    "button", { class: kind, "data-verdict": verdict, "aria-keyshortcuts": key }, words, " ", make("kbd", {}, key),
  ));
  const before = one.verdict ? make("span", { class: "muted" }, `now: ${one.verdict.verdict}, by ${one.verdict.by ?? "a label from elsewhere"}`) : "";
  const blocked = one.card ? make("button", { "data-block": "", "aria-keyshortcuts": "c" }, "Block this card ", make("kbd", {}, "c")) : "";
  return make("p", { class: "row verdicts" }, ...buttons, blocked, before);
}

function details(found) {
  const history = found.history.map((one) => make(
    "tr", {},
    make("td", {}, time(one.event_time_ms, true)), make("td", { class: "figure" }, money(one.amount)),
    make("td", { class: `outcome ${one.outcome}` }, one.outcome), make("td", { class: "figure" }, number(one.score, 3)),
    make("td", {}, one.verdict?.verdict ?? ""), make("td", { class: "id" }, one.transaction_id),
  ));
  const since = found.history_since_ms === null ? "" : ` since ${time(found.history_since_ms, true)}`;
  return [
    ...found.missing.map((words) => make("p", { class: "muted" }, `${words}.`)),
    make("h3", {}, `The card's other transactions${since}`),
    history.length
      ? make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The card's other transactions" }, table(["time", "amount", "outcome", "score", "verdict", "transaction"], history, "The card's other transactions, newest first"))
      : make("p", { class: "muted" }, "None."),
    ...(found.transaction ? [make("h3", {}, "Transaction"), facts(found.transaction)] : []),
    ...(Object.keys(found.profile_values).length ? [make("h3", {}, "Profile values at the decision"), facts(mapped(found.profile_values, (value) => (value === null ? "missing" : number(value, 4))))] : []),
  ];
}

const mapped = (object, change) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]));

const facts = (values) => make("dl", { class: "facts" }, ...Object.entries(values).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value === "" ? "–" : value))));

function onKey(event) {
  if (shownView() !== "review" || event.ctrlKey || event.metaKey || event.altKey || byId("help").open || byId("ask").open) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const act = {
    j: () => move(1), k: () => move(-1), b: () => lastJudged && open(lastJudged), c: block,
    "/": () => { showPart("queue"); byId("queue-filter").elements.reason.focus(); },
    "?": () => byId("help").showModal(),
  }[event.key] ?? (VERDICTS[event.key] && !event.repeat && (() => judge(VERDICTS[event.key][0])));
  if (!act) return;
  event.preventDefault();
  act();
}

function move(step) {
  if (!cases.length) return;
  const position = cases.findIndex((one) => one.id === openId);
  const next = position < 0 ? (step > 0 ? 0 : cases.length - 1) : Math.min(cases.length - 1, Math.max(0, position + step));
  if (cases[next].id !== openId) open(cases[next].id);
}
