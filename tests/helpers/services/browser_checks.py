"""Pages in a real browser: signing in, contrast of texts, and what the Tab key reaches."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.helpers.services.review_fixtures import ReviewWorld

TIMEOUT_MS = 30_000
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


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A browser; skips the test on a machine without one."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def signed_in(browser: Browser, world: ReviewWorld, user: str, view: str = "#review", **options: Any) -> Iterator[Page]:
    """A signed-in page; its console must be empty at the end, but for refused requests."""
    complaints: list[str] = []
    context = browser.new_context(**options)
    context.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    page = context.new_page()
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        page.goto(world.url)
        page.get_by_label("Token").fill(world.tokens[user])
        page.get_by_label("Token").press("Enter")
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        page.goto(world.url + "/" + view)
        yield page
    finally:
        context.close()
    assert [text for text in complaints if "409" not in text] == []
