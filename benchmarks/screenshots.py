"""Screenshots of the dashboard for the README, taken during the demo while a promotion waits for approval.

python -m benchmarks.screenshots
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent.parent / "docs" / "images"
TIMEOUT_MS = 300_000
UNKNOWN = "–"  # of a figure; all are known if transactions were decided within the last 30 s
COLOURS = 200  # keeps each picture under 200 kB


def main() -> None:
    """Run the demo, wait until its new version waits for approval, and take both pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("Chromium not found; install chromium or google-chrome")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with demo() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        desktop, phone = (
            open_dashboard(browser, address, 1280, 1500, "light"),
            open_dashboard(browser, address, 360, 1000, "dark"),
        )
        for page in (desktop, phone):
            page.get_by_role("heading", name="Waiting for approval").wait_for(timeout=TIMEOUT_MS)
            page.locator("#figures").filter(has_not_text=UNKNOWN).wait_for(timeout=TIMEOUT_MS)
        desktop.locator("#heat").get_by_role("button", name="monto", exact=True).click()
        desktop.locator("#feature-chart canvas").wait_for(timeout=TIMEOUT_MS)
        save_screenshot(phone, "dashboard-phone.png", whole=False)
        save_screenshot(desktop, "dashboard-desktop.png", whole=True)
        browser.close()


@contextmanager
def demo() -> Iterator[str]:
    """Context manager: runs the demo in a child process; yields the URL of the dashboard."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"TAMIZ_STATE_DIR": folder, "TAMIZ_PROMOTION": "approval", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tamiz", "demo"], env=os.environ | settings, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if found := re.search(r"http://\S+", line):
                yield found[0]
                break
        else:
            raise SystemExit(f"the demo ended early:\n{output}")
        process.stdout.read()
        process.wait()


def open_dashboard(browser: Browser, address: str, width: int, height: int, scheme: str) -> Page:
    """Open the dashboard and wait until it is live."""
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=2 if width < 500 else 1,
    )
    page.goto(address)
    page.get_by_text("live", exact=True).wait_for(timeout=TIMEOUT_MS)
    return page


def save_screenshot(page: Page, name: str, *, whole: bool) -> None:
    """Save a screenshot of the window, or of the whole page."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB").quantize(COLOURS)
    picture.save(FOLDER / name, optimize=True)
    print(f"{FOLDER / name}: {(FOLDER / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
