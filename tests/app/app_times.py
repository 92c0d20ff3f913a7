"""How long a user waits, with the shipped network in a real Chromium. Prints seconds; no test.

CONDCONV_MLX_BROWSER=/usr/bin/chromium python tests/app/app_times.py
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app_material import noise
from playwright.sync_api import Page, sync_playwright

HEATMAP = ".st-key-routing .heatmaplayer image"
UPLOADS = 200
# By the path of each page: its title, what is there when it can be read, and something to click.
PAGES = {
    "": ("Route", HEATMAP, ".st-key-routing .scatterlayer .point >> nth=9"),
    "kernels": ("Kernels", ".st-key-experts .heatmaplayer image >> nth=0", ".st-key-image button >> nth=2"),
    "what-if": (
        "What if",
        "[class*=st-key-silencing] .scatterlayer .point",
        "[class*=st-key-silencing] .point >> nth=5",
    ),
    "usage": ("Usage", ".st-key-section button", ".st-key-section [role=radiogroup] button >> nth=1"),
    "train": ("Train", "[class*=st-key-new-training]", ".st-key-recipe [role=radiogroup] button >> nth=1"),
    "compare": ("Compare", ".js-plotly-plot .point >> nth=0", ".st-key-compare [role=radiogroup] button >> nth=1"),
    "device": ("Device", ".st-key-measure button", ".st-key-mode [role=radiogroup] button >> nth=1"),
}
# What tells when the app has answered.
WATCH = """() => { window.answered = new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error('no answer in a minute')), 60000)
  const app = document.querySelector('[data-testid=stApp]')
  let ran = false
  new MutationObserver((_, observer) => {
    if (app.dataset.testScriptState === 'running') ran = true
    else if (ran) { observer.disconnect(); resolve() }
  }).observe(app, {attributes: true, attributeFilter: ['data-test-script-state']})
})}"""
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"


def timed(what: str, wanted: float, work: Callable[[], Any]) -> None:
    """Print what `work` takes, beside what it may."""
    start = time.perf_counter()
    work()
    print(f"{what:<42} {time.perf_counter() - start:6.2f} s   wanted {wanted:g}", flush=True)


def picture(page: Page, name: str) -> None:
    """Look at a picture, until its name stands over it."""
    page.get_by_role("radio", name=name, exact=True).click()
    page.locator("h4", has_text=name).first.wait_for()


def cell(page: Page, number: int) -> None:
    """Click a cell of the heatmap, until the sentence about its expert is there."""
    box = page.locator(".st-key-routing .scatterlayer .point").nth(number).bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_text(f"Expert {number + 1} is").wait_for()


def each_page(page: Page, address: str) -> None:
    """The first view of each page in a new tab, a second one, and a click that the page answers when it is done."""
    for path, (title, ready, click) in PAGES.items():

        def view(path: str = path, title: str = title, ready: str = ready) -> None:
            page.goto(f"{address}/{path}")
            page.locator("h2", has_text=title).first.wait_for()
            page.locator(ready).first.wait_for()

        timed(f"{title}, the first view", 3, view)
        page.locator(IDLE).wait_for()
        timed(f"{title}, again", 3, view)
        page.locator(IDLE).wait_for()
        place = page.locator(click)
        place.scroll_into_view_if_needed()
        time.sleep(1)
        page.evaluate(WATCH)
        box = place.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

        def answered() -> None:
            page.mouse.down()
            page.mouse.up()
            page.evaluate("() => window.answered")

        timed(f"{title}, a click", 0.5, answered)


def upload(page: Page, folder: Path) -> None:
    """Many pictures at once."""
    files = []
    for i in range(UPLOADS):
        files.append(folder / f"{i}.png")
        files[-1].write_bytes(noise(i, 400))
    page.get_by_role("button", name="Add").first.click()
    page.locator("input[type=file]").wait_for(state="attached")
    start = time.perf_counter()
    page.set_input_files("input[type=file]", files)
    page.locator("h4", has_text="0.png").first.wait_for()
    print(f"{f'{UPLOADS} pictures of 400 × 400 at once':<42} {time.perf_counter() - start:6.2f} s", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as play:
        folder = Path(temporary)
        browser = play.chromium.launch(executable_path=os.environ["CONDCONV_MLX_BROWSER"], args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(120_000)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = shutil.which("condconv-mlx", path=str(Path(sys.executable).parent)) or "condconv-mlx"
        started = time.perf_counter()
        app = subprocess.Popen(
            [command, "app", "--no-browser", "--port", str(port)],
            cwd=folder,
            env=os.environ | {"CONDCONV_MLX_CACHE": str(folder / "cache"), "CONDCONV_MLX_RUNS": str(folder)},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert app.stdout
            app.stdout.readline()
            print(f"{'condconv-mlx app answers':<42} {time.perf_counter() - started:6.2f} s", flush=True)
            page.goto(f"http://127.0.0.1:{port}")
            page.locator(HEATMAP).wait_for()
            seconds = time.perf_counter() - started
            print(f"{'from the command to the first view':<42} {seconds:6.2f} s   wanted 6", flush=True)

            def again() -> None:
                page.reload()
                page.locator(HEATMAP).wait_for()

            timed("a reload", 3, again)
            time.sleep(1)
            timed("a click on a picture, the first time", 0.5, lambda: picture(page, "Moose"))
            time.sleep(1)
            timed("a click on a picture, again", 0.5, lambda: picture(page, "Kitten with yarn"))
            time.sleep(1)
            timed("a click on a cell", 0.5, lambda: cell(page, 3))
            time.sleep(1)
            timed("a click on another cell", 0.5, lambda: cell(page, 6))
            time.sleep(1)

            def kernels() -> None:
                page.get_by_role("button", name="See these kernels").click()
                page.locator(".st-key-experts .heatmaplayer image").first.wait_for()

            timed("to the page Kernels", 3, kernels)
            each_page(page, f"http://127.0.0.1:{port}")
            page.get_by_role("link", name="Route").first.click()
            page.locator(HEATMAP).wait_for()
            upload(page, folder)
            timed("a reload with those", 3, again)
            timed("a click on a picture among those", 0.5, lambda: picture(page, "7.png"))
        finally:
            app.terminate()
            app.wait(20)
            browser.close()


if __name__ == "__main__":
    main()
