// Requests to the server, and changes that need a reason.
import { byId, make } from "./dom.js";

const DAY_MS = 86400000;

// A request; with a body it is a change. Returns whether it was accepted, and what the server says.
export async function call(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  try {
    const answer = await fetch(path, options);
    if (answer.status === 401) location.assign("/signin");
    return { ok: answer.ok, said: await answer.json() };
  } catch {
    return { ok: false, said: { error: "The dashboard's server does not respond." } };
  }
}

// Asks for a reason in a dialog. fields: more labels with inputs. Returns the values by name; null if it is cancelled.
export function askReason(title, action, { fields = [], reason = "", kind = "main" } = {}) {
  const dialog = byId("ask");
  const confirm = make("button", { type: "button", class: kind }, action);
  const cancel = make("button", { type: "button" }, "Cancel");
  const form = make(
    "form", { class: "asked" },
    make("h2", { id: "ask-head" }, title),
    make("label", {}, "Reason (kept in the history)", make("input", { name: "reason", required: "", maxlength: "300", autocomplete: "off", value: reason })),
    ...fields,
    make("p", { class: "row" }, confirm, cancel),
  );
  dialog.replaceChildren(form);
  return new Promise((done) => {
    let values = null;
    // Enter in a field decides nothing, as in the approval of models.
    form.addEventListener("submit", (event) => event.preventDefault());
    confirm.addEventListener("click", () => {
      if (!form.reportValidity()) return;
      values = Object.fromEntries(new FormData(form));
      dialog.close();
    });
    cancel.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => done(values), { once: true });
    dialog.showModal();
  });
}

const untilField = () => make("label", {}, "For how long", make(
  "select", { name: "days" }, make("option", { value: "" }, "until it is removed"), make("option", { value: "1" }, "1 day"), make("option", { value: "7" }, "7 days"), make("option", { value: "30" }, "30 days"),
));

// Puts values on a list, after a question. Returns what the server says; null if it is cancelled.
export async function addToList(list, values, { field = null, effect = "block", reason = "" } = {}) {
  const what = values.length === 1 ? values[0] : `${values.length} values`;
  const asked = await askReason(`Put ${what} on the list ${list}`, "Put on the list", { fields: [untilField()], reason, kind: effect === "allow" ? "main" : "danger" });
  if (!asked) return null;
  const until_ms = asked.days ? Date.now() + asked.days * DAY_MS : null;
  const { said } = await call(`/v1/lists/${encodeURIComponent(list)}`, { field, values, effect, reason: asked.reason, until_ms });
  return said.text ?? said.error;
}

export const blockCards = (cards, reason) => addToList("blocked-cards", cards, { reason });
