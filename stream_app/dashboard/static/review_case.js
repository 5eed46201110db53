// Parts of one case of the review queue.
import { make, money, number, time } from "./dom.js";

// What the list shows of a case.
export function summaryOf(one, me) {
  const other = one.claim && one.claim.by !== `web:${me.user ?? "anonymous"}` ? `${one.claim.by} is on it. ` : "";
  return [
    make("span", {}, one.transaction_id),
    make("span", { class: "amount" }, money(one.amount)),
    make("small", {}, `${time(one.decided_at_ms, true)}, score ${number(one.score, 3)}${one.outcome === "review" ? "" : `, ${one.outcome}`}`),
    make("small", {}, other, why(one)),
  ];
}

function why(one) {
  const [first] = one.matches;
  if (one.decided_by !== "model" && first) return first.reason || first.name;
  return one.reasons[0]?.text ?? "";
}

export function caseFacts(one) {
  const decided = { model: "the model", rule: "a rule", list: "a list", exploration: "exploration: a decline that is let through to learn" }[one.decided_by];
  const values = [
    ["outcome", make("span", { class: `outcome ${one.outcome}` }, one.outcome)],
    ["decided by", decided],
    ["score", `${number(one.score, 4)} (model: ${one.model_outcome}, from ${number(one.threshold, 4)})`],
    ["card", one.card ?? "–"],
    ["time of the transaction", time(one.event_time_ms, true)],
    ["decided", time(one.decided_at_ms, true)],
    ["model version", one.model_version],
  ];
  return [make("dl", { class: "facts" }, ...values.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))))];
}

export function reasonsOf(one) {
  if (!one.reasons.length) return [];
  return [make("h3", {}, "Reasons of the score"), make("ol", {}, ...one.reasons.map((reason) => make("li", {}, reason.text)))];
}

export function rulesOf(one) {
  if (!one.matches.length) return [];
  const rows = one.matches.map((match, i) => make(
    "li", {},
    make("b", {}, match.version === null ? `list ${match.name}` : `${match.name} v${match.version}`), `: ${match.effect}`,
    i === 0 && (one.decided_by === "rule" || one.decided_by === "list") ? ", decided" : "",
    match.mode === "shadow" ? ", in shadow (without effect)" : "", match.reason ? `. ${match.reason}` : "",
  ));
  return [make("h3", {}, "Rules and lists that match"), make("ul", {}, ...rows)];
}
