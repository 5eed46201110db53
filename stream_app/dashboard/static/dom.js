// Builds and replaces DOM nodes. Texts become text nodes only, so that no payload is interpreted as markup.

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

const rendered = new Map(); // id -> JSON of the value that is drawn

// Redraws only what changed, so that focus and typed text are kept.
export function show(id, value, draw) {
  const coded = JSON.stringify(value);
  if (rendered.get(id) === coded) return;
  rendered.set(id, coded);
  byId(id).replaceChildren(...draw(value));
}

export const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });

export const money = (value) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export function time(ms, withDay = false) {
  const moment = new Date(ms);
  if (Number.isNaN(moment.getTime())) return "?";
  const text = moment.toISOString();
  return withDay ? `${text.slice(0, 10)} ${text.slice(11, 16)}` : text.slice(11, 19);
}

export function table(heads, rows, caption) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  return make(
    "table", {}, make("caption", { class: "hidden" }, caption), make("thead", {}, head), make("tbody", {}, ...rows),
  );
}
