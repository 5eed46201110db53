// Promotions that wait for approval.
import { byId, make, number, show, time } from "./dom.js";

export function drawApprovals(waiting, mayApprove) {
  byId("waiting").hidden = !waiting.length && !byId("result").textContent;
  show("waiting-list", waiting, () => waiting.map((one) => (mayApprove ? form(one) : make("div", { class: "approval" }, ...about(one), make("p", { class: "muted" }, "Your role may not approve; this needs the role approve.")))));
}

function about(one) {
  return [
    make("h3", {}, `Version ${one.version}`),
    make("p", {}, one.reason),
    make("p", { class: "muted" }, `Waiting since ${time(one.since_ms, true)}. `, make("a", { href: `/models/${one.version}/report.pdf`, target: "_blank" }, `Report of version ${one.version} (PDF)`)),
  ];
}

function form(one) {
  const id = `reason-${one.version}`;
  const button = (kind, move, words) => make("button", { type: "button", class: kind, value: move }, `${words} version ${one.version}`);
  const made = make(
    "form", { class: "approval" },
    ...about(one),
    make("label", { for: id }, "Reason (kept in the history)"),
    make("input", { id, name: "reason", required: "", maxlength: "500", autocomplete: "off" }),
    make("p", { class: "row" }, button("main", "approve", "Approve"), button("danger", "reject", "Reject")),
  );
  // The buttons are not submit buttons: Enter in the field would otherwise press the first one.
  made.addEventListener("submit", (event) => event.preventDefault());
  made.addEventListener("click", (event) => {
    const move = event.target.closest("button")?.value;
    if (move && made.reportValidity()) decide(one.version, move, made);
  });
  return made;
}

async function decide(version, move, made) {
  const buttons = made.querySelectorAll("button");
  buttons.forEach((button) => { button.disabled = true; });
  try {
    const answer = await fetch(`/models/${version}/${move}`, { method: "POST", body: new URLSearchParams(new FormData(made)) });
    const said = await answer.json();
    byId("result").textContent = answer.ok
      ? `Version ${number(said.version)} is ${said.change}, by ${said.by}.${said.warning ? ` ${said.warning}` : ""}`
      : said.error;
  } catch {
    byId("result").textContent = "The dashboard's server does not respond; check `tamiz models history` before you try again.";
  }
  buttons.forEach((button) => { button.disabled = false; });
}
