"""Checks of a page in a real browser: contrast of texts, and what the Tab key reaches."""

import shutil

from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Counts the visible texts and lists those with too little contrast (WCAG 2, level AA).
CONTRAST = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const light = ({ r, g, b }) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.a === 1) return found;
    }
    throw new Error("nothing lies behind " + node.outerHTML);
  };
  const poor = [];
  let looked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    looked += 1;
    const [one, other] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${node.outerHTML.slice(0, 120)}`);
  }
  return { looked, poor };
}"""


def reach_by_tab(page: Page) -> tuple[int, list[str]]:
    """Number of visible controls, and those that the Tab key does not reach."""
    wanted: int = page.evaluate(
        """() => {
          const all = [...document.querySelectorAll("a[href], button, input, select, [tabindex='0']")];
          window.reached = new Set();
          document.addEventListener("focusin", (e) => window.reached.add(e.target));
          document.activeElement?.blur();
          window.wanted = all.filter((node) => node.checkVisibility());
          return window.wanted.length;
        }"""
    )
    for _ in range(wanted + 10):
        page.keyboard.press("Tab")
    missed = "() => window.wanted.filter((n) => n.isConnected && !window.reached.has(n)).map((n) => n.outerHTML)"
    return wanted, page.evaluate(missed)
