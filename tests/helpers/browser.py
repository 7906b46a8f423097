"""A real browser without a window, for tests of pages; they are skipped where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAMES = "chromium", "chromium-browser", "google-chrome"


@contextmanager
def browsing() -> Iterator[object]:
    """Yield Chromium as Playwright drives it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs a browser: one of {', '.join(NAMES)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser, width=1400, scheme="light") -> Iterator[object]:
    """Yield an empty page of this width; what its console says, and its errors, are in `complaints`."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    try:
        yield page
    finally:
        context.close()


def overflow(page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


_FOCUSED = """() => {
  const found = document.activeElement;
  if (found === document.body) return "";
  const label = found.getAttribute("aria-labelledby") || found.id || found.textContent.trim().slice(0, 40);
  return [found.tagName, label, getComputedStyle(found).outlineStyle].join("|");
}"""


def tab_stops(page, most=60) -> list[str]:
    """Return what Tab reaches from the top: tag, label, and the style of its outline."""
    stops = []
    for _ in range(most):
        page.keyboard.press("Tab")
        if not (stop := page.evaluate(_FOCUSED)) or stop in stops:
            break
        stops.append(stop)
    return stops
