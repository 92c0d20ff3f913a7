"""Leaving a page whose timer rings meanwhile, in a real Chromium.

Needs the browser extra, and the path of a Chromium in CONDCONV_MLX_BROWSER.
"""

from pathlib import Path
from typing import Any

from test_app_browser import Tab, chromium, pytestmark, served  # noqa: F401

from condconv_mlx.cli import main

# Timers ring every second, and a page takes a while, as with a large network.
SLOW = """
import time

import streamlit

fragment, header = streamlit.fragment, streamlit.header


def slow(title, **settings):
    time.sleep(0 if title == "Train" else 3)
    return header(title, **settings)


streamlit.header = slow
streamlit.fragment = lambda function, run_every=None: fragment(function, run_every=run_every and 1)
"""
# The browser is busy after a click, and rings before it hears of the new page.
BUSY = """
document.addEventListener("click", () => setTimeout(() => {
    const end = Date.now() + 1500
    while (Date.now() < end);
}, 5), { once: true })
"""


def test_a_timer_of_the_page_before_does_not_blank_the_next(
    untrained: Path,
    chromium: Any,  # noqa: F811
    pictures: Path,
    tmp_path: Path,
) -> None:
    from playwright.sync_api import expect

    run = tmp_path / "runs" / "short"
    assert main(f"train --data folder:{pictures} --epochs 1 --batch-size 8 --width 4 --out {run}".split()) == 0
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    for address in served(
        tmp_path / "app.txt",
        CONDCONV_MLX_WEIGHTS=str(untrained),
        CONDCONV_MLX_CACHE=str(tmp_path / "cache"),
        CONDCONV_MLX_RUNS=str(run.parent),
        PYTHONPATH=str(tmp_path),
    ):
        tab = Tab(chromium, address, 1280)
        page, app = tab.page, tab.page.get_by_test_id("stApp")
        page.goto(f"{address}/train")
        opens = page.get_by_role("button", name="Open on Route")
        expect(opens).to_be_visible()
        expect(app).to_have_attribute("data-test-script-state", "notRunning")
        page.evaluate(BUSY)
        opens.click()
        expect(page.locator("h2").first).to_have_text("Route")
        expect(app).to_have_attribute("data-test-script-state", "notRunning")
        # What the timer asked for would come now.
        page.wait_for_timeout(2000)
        expect(page.locator("h2").first).to_have_text("Route", timeout=1000)
        tab.close()
