"""The app as its user meets it: the command, a real Chromium, a real photograph.

Needs the browser extra, and the path of a Chromium in CONDCONV_MLX_BROWSER.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from condconv_mlx.app.pictures import SAMPLES, samples

BROWSER = os.environ.get("CONDCONV_MLX_BROWSER")
SECONDS = 60

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not BROWSER, reason="CONDCONV_MLX_BROWSER names no Chromium"),
]


@pytest.fixture(scope="module")
def address(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app, started by its command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "app.txt"
    command = shutil.which("condconv-mlx", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert command, "the console script condconv-mlx is not installed"
    environment = os.environ | {"CONDCONV_MLX_WEIGHTS": str(untrained)}
    with log.open("w") as output:
        # From another folder: nothing may hang on where it is started.
        app = subprocess.Popen(
            [command, "app", "--no-browser", "--port", str(port)],
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", app, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        app.terminate()
        app.wait(20)
    assert "Traceback" not in log.read_text()


def wait_for(url: str, app: subprocess.Popen, log: Path) -> None:
    """Until the app answers."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and app.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the app did not start:\n{log.read_text()}")


def test_upload_prediction_and_heatmap(address: str, tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    api.expect.set_options(timeout=SECONDS * 1000)
    photograph = tmp_path / "my dog.jpg"
    photograph.write_bytes((SAMPLES / "dog.jpg").read_bytes())
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photograph.read_bytes()[:2000])
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(SECONDS * 1000)
        elsewhere: list[str] = []
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(address)
        heading = page.locator("h4").first
        api.expect(heading).to_have_text("Kitten with yarn")

        page.set_input_files("input[type=file]", photograph)
        api.expect(heading).to_have_text("my dog.jpg")
        # The prediction: a bar for each class, the likeliest one first, with its probability.
        bars = page.locator(".st-key-classes")
        api.expect(bars.locator(".bars .point")).to_have_count(10)
        assert bars.locator(".ytick").first.text_content()
        assert "%" in (bars.locator(".bars .point text").first.text_content() or "")
        # The heatmap: drawn, with a cell to click for each of three routers and four experts.
        heatmap = page.locator(".st-key-routing")
        api.expect(heatmap.locator(".heatmaplayer image")).to_have_count(1)
        box = heatmap.locator(".heatmaplayer image").bounding_box()
        assert box and box["width"] > 200 and box["height"] > 60
        cells = heatmap.locator(".scatterlayer .point")
        api.expect(cells).to_have_count(3 * 4)

        # A click on the last router's row shows its layer's kernels.
        cells.last.scroll_into_view_if_needed()
        place = cells.last.bounding_box()
        assert place
        page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.wait_for_url("**layer=classifier**")
        api.expect(page.locator(".st-key-experts .heatmaplayer image")).to_have_count(4)

        page.set_input_files("input[type=file]", broken)
        alert = page.get_by_test_id("stAlert")
        api.expect(alert).to_contain_text("broken.jpg is damaged")
        page.get_by_role("radio", name="Moose").click()
        api.expect(heading).to_have_text("Moose")
        api.expect(alert).to_contain_text("broken.jpg is damaged")
        page.wait_for_url("**image=moose**")

        # A reload shows the same picture and layer.
        page.reload()
        api.expect(heading).to_have_text("Moose")
        api.expect(page.locator("h4").last).to_have_text("All pictures at classifier")
        browser.close()
    others = {
        url for url in elsewhere if not url.startswith((address, "data:", "blob:", address.replace("http", "ws")))
    }
    assert not others


def test_an_expert_is_silenced_by_a_click_and_given_back(address: str) -> None:
    api = pytest.importorskip("playwright.sync_api")
    api.expect.set_options(timeout=SECONDS * 1000)
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.set_default_timeout(SECONDS * 1000)
        page.goto(f"{address}/what-if")
        cells = page.locator("[class*=st-key-silencing] .scatterlayer .point")
        api.expect(cells).to_have_count(3 * 4)
        place = cells.nth(5).bounding_box()
        assert place
        # The second expert of the second router: one click silences it, another gives it back.
        middle = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
        page.mouse.click(*middle)
        page.wait_for_url("**what=1.w_-_0_-_-**")
        # The chart is drawn anew, with a frame.
        api.expect(page.locator("[class*=st-key-silencing] .shapelayer path")).to_have_count(1)
        page.mouse.click(*middle)
        page.wait_for_function("!location.search.includes('what=')")
        page.get_by_role("button", name="Undo").click()
        page.wait_for_url("**what=1.w_-_0_-_-**")
        # A slider by the keyboard, and a reload that keeps both.
        thumb = page.get_by_role("slider").first
        thumb.focus()
        thumb.press("ArrowRight")
        page.wait_for_function("/what=1.w_[\\d.]+_0_-_-/.test(location.search)")
        page.reload()
        api.expect(page.get_by_text("Changed: blocks.2.")).to_be_visible()
        browser.close()


def test_a_lasso_makes_a_slice_for_all_pages(address: str) -> None:
    api = pytest.importorskip("playwright.sync_api")
    api.expect.set_options(timeout=SECONDS * 1000)
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(SECONDS * 1000)
        page.goto(f"{address}/usage?section=map")
        chart = page.locator(".st-key-map")
        api.expect(chart.locator(".scatterlayer .point")).to_have_count(len(samples("cifar10")))
        box = chart.locator(".nsewdrag").bounding_box()
        assert box
        left, top, right, bottom = box["x"] + 2, box["y"] + 2, box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
        page.mouse.move(left, top)
        page.mouse.down()
        for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
            page.mouse.move(*corner, steps=5)
        page.mouse.up()
        page.get_by_role("button", name=f"Look at these {len(samples('cifar10'))} pictures").click()
        page.wait_for_url("**tray=**")
        page.get_by_role("link", name="Route").click()
        api.expect(page.locator(".st-key-image button")).to_have_count(len(samples("cifar10")))
        page.get_by_role("link", name="Usage").click()
        page.get_by_role("button", name="Back to all pictures").click()
        page.wait_for_function("!location.search.includes('tray=')")
        browser.close()
