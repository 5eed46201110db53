// The views of the page, by the fragment of its address: #review shows the review queue, #review/ID one case of it,
// #rules shows rules and lists.
import { byId } from "./dom.js";

const VIEWS = ["overview", "review", "rules"];

export const shownView = () => {
  const name = location.hash.slice(1).split("/")[0];
  return VIEWS.includes(name) ? name : "overview";
};

export function startViews(changed) {
  const show = () => {
    const shown = shownView();
    for (const name of VIEWS) byId(`view-${name}`).hidden = name !== shown;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#${shown}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    changed(shown);
  };
  addEventListener("hashchange", show);
  show();
}
