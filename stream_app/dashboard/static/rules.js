// Rules and lists: the ruleset in force with live statistics, its history, proposals; entries of lists.
import { addToList, askReason, call } from "./changes.js";
import { byId, make, number, show, table, time } from "./dom.js";

const REFRESH_MS = 3000;
const PROBLEMS = { "precision-fell": "precision fell", "no-matches": "no matches" };
const MODES = { live: "Make live", shadow: "To shadow", off: "Turn off" };
let me = null;
let refreshedAt = -Infinity;

export function startRules(user) {
  me = user;
  byId("rollback").hidden = !me.may_approve;
  byId("rollback").addEventListener("click", rollBack);
  byId("entry-form").hidden = !me.may_review;
  byId("entry-form").addEventListener("submit", (event) => event.preventDefault());
  byId("entry-add").addEventListener("click", addEntry);
  byId("list-filter").addEventListener("submit", (event) => event.preventDefault());
  byId("list-filter").addEventListener("input", () => refreshRules(true));
}

export async function refreshRules(now = false) {
  if (!now && performance.now() - refreshedAt < REFRESH_MS) return;
  refreshedAt = performance.now();
  const query = new URLSearchParams(new FormData(byId("list-filter")));
  const [rules, lists] = await Promise.all([call("/v1/rules"), call(`/v1/lists?${query}`)]);
  if (rules.ok) drawRules(rules.said);
  if (lists.ok) drawLists(lists.said);
  if (!rules.ok || !lists.ok) byId("rules-result").textContent = (rules.ok ? lists : rules).said.error;
}

function drawRules(found) {
  const counted = found.counted_until_ms === null ? "" : `, counted until ${time(found.counted_until_ms, true)} (event time)`;
  byId("rules-number").textContent = found.number === null ? "none" : `ruleset ${found.number}${counted}`;
  show("rules", [found.rules, found.exploration], () => [
    found.rules.length
      ? table(["rule", "mode", "effect", "matches", "precision", "only this rule", ""], found.rules.map(ruleRow), "Rules in force with live statistics")
      : make("p", { class: "muted" }, "No rules are in force. `tamiz rules activate FILE` puts some in force."),
    ...(found.exploration ? [make("p", { class: "muted" }, `Exploration: ${found.exploration}.`)] : []),
  ]);
  byId("proposals-card").hidden = !found.proposals.length;
  show("proposals", found.proposals, () => found.proposals.map(proposal));
  show("rules-history", found.history, () => (found.history.length ? found.history.map((one) => historyItem(one, found.number)) : [make("li", { class: "muted" }, "No ruleset yet.")]));
}

function ruleRow({ rule, statistics }) {
  const until = rule.valid_until ? `, until ${rule.valid_until}` : "";
  const buttons = me.may_approve ? Object.entries(MODES).filter(([mode]) => mode !== rule.mode).map(([mode, words]) => {
    const button = make("button", { type: "button", "aria-label": `${words}: ${rule.id}` }, words);
    button.addEventListener("click", () => setMode(rule, mode));
    return button;
  }) : [];
  const problem = statistics?.problem ? make("span", { class: "bad" }, PROBLEMS[statistics.problem] ?? statistics.problem) : "";
  return make(
    "tr", {},
    make("td", {}, make("b", {}, `${rule.id} v${rule.version}`), " ", problem, make("br"), rule.reason, make("br"), make("code", {}, rule.when), make("span", { class: "muted" }, rule.owner || until ? make("br") : "", rule.owner, until)),
    make("td", {}, rule.mode), make("td", { class: `outcome ${rule.effect === "block" ? "decline" : rule.effect}` }, rule.effect),
    make("td", { class: "figure" }, statistics ? number(statistics.matches) : "–"),
    make("td", {}, precision(statistics)),
    make("td", { class: "figure" }, statistics ? number(statistics.alone) : "–"),
    make("td", {}, ...buttons),
  );
}

function precision(statistics) {
  const found = statistics?.precision;
  if (!found) return "no labels yet";
  const percent = (value) => number(100 * value, 1);
  return `${percent(found.value)} % (${percent(found.low)} to ${percent(found.high)}), ${number(statistics.labels.rows)} labels`;
}

function described(one) {
  const tested = one.evidence ? [`tested on ${number(one.evidence.transactions)} transactions, ${time(one.evidence.from_ms, true)} to ${time(one.evidence.until_ms, true)}`] : [];
  return [...one.differences, ...tested].join("; ");
}

function proposal(one) {
  const approve = make("button", { type: "button", class: "main" }, `Approve ruleset ${one.number}`);
  approve.addEventListener("click", async () => {
    const asked = await askReason(`Approve ruleset ${one.number}`, "Approve");
    if (asked) send("/v1/rules/approve", { number: one.number, reason: asked.reason });
  });
  return make(
    "div", { class: "approval" }, make("h3", {}, `Ruleset ${one.number}, proposed by ${one.by}`),
    make("p", {}, one.reason), make("p", { class: "muted" }, `${time(one.at_ms, true)}. ${described(one)}`),
    me.may_approve ? make("p", {}, approve) : make("p", { class: "muted" }, "Your role may not approve; this needs the role approve."),
  );
}

function historyItem(one, inForce) {
  const what = one.restores !== null ? (one.restores ? `rolled back to ruleset ${one.restores}` : "rolled back to no rules") : one.proposal !== null ? `approved proposal ${one.proposal}` : one.change;
  return make(
    "li", { class: one.number === inForce && !one.refused ? "moved" : null },
    make("time", {}, time(one.at_ms, true)), " ", make("b", {}, `ruleset ${one.number} ${what}`), one.number === inForce && !one.refused ? " (in force)" : "",
    one.refused ? make("p", { class: "bad" }, `No effect: ${one.refused}`) : "",
    make("p", { class: "muted" }, `${one.reason} (${one.by}). ${described(one)}`),
  );
}

function drawLists(found) {
  const field = byId("entry-form").elements.field;
  if (!field.value && found.key) field.value = found.key;
  const select = byId("list-filter").elements.list;
  const chosen = select.value;
  if (select.options.length !== found.lists.length + 1 || found.lists.some((one, i) => select.options[i + 1].value !== one.name)) {
    select.replaceChildren(make("option", { value: "" }, "all"), ...found.lists.map((one) => make("option", { value: one.name }, one.name)));
    select.value = found.lists.some((one) => one.name === chosen) ? chosen : "";
  }
  byId("lists-count").textContent = `${number(found.matching)} entries match${found.cut ? `; ${number(found.cut)} more than the page holds` : ""}`;
  show("entries", found.entries, () => [found.entries.length
    ? table(["list", "value", "effect", "since", "until", ""], found.entries.map(entryRow), "Entries of lists, newest first")
    : make("p", { class: "muted" }, "No entry matches.")]);
}

function entryRow(one) {
  const remove = make("button", { type: "button", "aria-label": `Remove ${one.value} from ${one.list}` }, "Remove");
  remove.addEventListener("click", async () => {
    const asked = await askReason(`Remove ${one.value} from the list ${one.list}`, "Remove", { kind: "danger" });
    if (asked) send(`/v1/lists/${one.list}`, { field: one.field, values: [one.value], effect: one.effect === "snooze" ? null : one.effect, reason: asked.reason, removed: true });
  });
  return make(
    "tr", {},
    make("td", {}, one.list), make("td", {}, make("b", {}, one.value), make("br"), make("span", { class: "muted" }, `${one.field}. ${one.reason} (${one.by})`)),
    make("td", {}, one.effect === "snooze" ? `${one.rule} does not match` : one.effect ?? "none"),
    make("td", {}, time(one.at_ms, true)), make("td", {}, one.until_ms === null ? "it is removed" : time(one.until_ms, true)),
    make("td", {}, me.may_review && one.effect !== "snooze" ? remove : ""),
  );
}

async function setMode(rule, mode) {
  const force = make("label", {}, "Why it goes live without a test (empty: it was tested)", make("input", { name: "force", maxlength: "300", autocomplete: "off" }));
  const asked = await askReason(`${MODES[mode]}: ${rule.id} v${rule.version}`, MODES[mode], { fields: mode === "live" ? [force] : [], kind: mode === "live" ? "danger" : "main" });
  if (asked) send(`/v1/rules/${rule.id}/mode`, { mode, reason: asked.reason, force: asked.force || null });
}

async function rollBack() {
  const asked = await askReason("Roll back to the ruleset before", "Roll back", { kind: "danger" });
  if (asked) send("/v1/rules/rollback", { reason: asked.reason });
}

async function addEntry() {
  const form = byId("entry-form");
  if (!form.reportValidity()) return;
  const { list, field, value, effect } = Object.fromEntries(new FormData(form));
  const words = await addToList(list, [value], { field, effect: effect || null });
  if (words === null) return;
  byId("rules-result").textContent = words;
  form.elements.value.value = "";
  refreshRules(true);
}

async function send(path, body) {
  const { said } = await call(path, body);
  byId("rules-result").textContent = said.text ?? said.error;
  refreshRules(true);
}
