"""The app as its user meets it: the command, a real Chromium, a real photograph.

Needs the browser extra, and the path of a Chromium in CONDCONV_MLX_BROWSER.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from condconv_mlx.app.pictures import SAMPLES, samples

BROWSER = os.environ.get("CONDCONV_MLX_BROWSER")
SECONDS = 120

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not BROWSER, reason="CONDCONV_MLX_BROWSER names no Chromium"),
]


@pytest.fixture(scope="module")
def address(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app, started by its command."""
    folder = tmp_path_factory.mktemp("app")
    yield from served(folder / "app.txt", CONDCONV_MLX_WEIGHTS=str(untrained), CONDCONV_MLX_CACHE=str(folder / "cache"))


def served(log: Path, **environment: str) -> Iterator[str]:
    """The app from its start to its end, with these in its environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = shutil.which("condconv-mlx", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert command, "the console script condconv-mlx is not installed"
    with log.open("w") as output:
        # From another folder: nothing may hang on where it is started.
        app = subprocess.Popen(
            [command, "app", "--no-browser", "--port", str(port)],
            cwd=log.parent,
            env=os.environ | environment,
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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    # Other tests may run beside this one.
    api.expect.set_options(timeout=SECONDS * 1000)
    with api.sync_playwright() as play:
        # With a camera that shows a test picture, and may be used without being asked.
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


class Tab:
    """A tab of a browser of its own, and what it complained about or asked of others."""

    def __init__(self, chromium: Any, address: str, width: int, scheme: str = "light"):
        self.address = address
        self.context = chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.watch(self.page)

    def watch(self, page: Any) -> None:
        page.set_default_timeout(SECONDS * 1000)
        page.on("console", self.noted)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def noted(self, message: Any) -> None:
        # Streamlit looks for its server below the address of a page first, where it answers 404.
        if message.type == "error" and "/_stcore/" not in message.location.get("url", ""):
            self.complaints.append(message.text)

    def close(self) -> None:
        self.context.close()
        own = (self.address, self.address.replace("http", "ws"), "data:", "blob:")
        assert [url for url in self.asked if not url.startswith(own)] == []
        assert self.complaints == []


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_from_an_upload_to_a_link_in_another_tab(
    address: str, chromium: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=SECONDS * 1000)
    photograph, broken = tmp_path / "my dog.jpg", tmp_path / "broken.jpg"
    photograph.write_bytes((SAMPLES / "dog.jpg").read_bytes())
    broken.write_bytes(photograph.read_bytes()[:2000])
    tab = Tab(chromium, address, width, scheme)
    page = tab.page
    page.goto(address)
    heading = page.locator("h4").first
    expect(heading).to_have_text("Kitten with yarn")

    page.get_by_role("button", name="Add").first.click()
    page.set_input_files("input[type=file]", [photograph, broken])
    expect(heading).to_have_text("my dog.jpg")
    expect(page.get_by_test_id("stAlert")).to_contain_text("broken.jpg is damaged")
    # The prediction: a bar for each class, the likeliest one first, with its probability.
    bars = page.locator(".st-key-classes")
    expect(bars.locator(".bars .point")).to_have_count(10)
    assert "%" in (bars.locator(".bars .point text").first.text_content() or "")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).first.click()
    lines = download.value.path().read_text().splitlines()
    assert download.value.suggested_filename == "classes.csv"
    assert lines[0] == "class,probability" and len(lines) == 11
    # The heatmap: drawn, with a cell to click for each of three routers and four experts.
    heatmap = page.locator(".st-key-routing")
    expect(heatmap.locator(".heatmaplayer image")).to_have_count(1)
    cells = heatmap.locator(".scatterlayer .point")
    expect(cells).to_have_count(3 * 4)

    # A click on the last router's last cell chooses its layer and expert, here and on the other pages.
    cells.last.scroll_into_view_if_needed()
    place = cells.last.bounding_box()
    assert place
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.wait_for_url("**layer=classifier**")
    expect(page.locator("h4", has_text="The kernel of classifier")).to_be_visible()
    expect(page.get_by_text("Expert 4 is")).to_be_visible()
    page.get_by_role("button", name="See these kernels").click()
    expect(page.locator("h2").first).to_have_text("Kernels")
    expect(page.locator(".st-key-experts .heatmaplayer image")).to_have_count(4)
    page.wait_for_url("**/kernels?**layer=classifier**")
    # Three pictures in a row are as high as they are wide, on a narrow screen too, with their captions and the scale.
    changed = page.locator(".st-key-change .js-plotly-plot")
    box = changed.bounding_box()
    assert box and abs(box["height"] - 90 - min(220, 0.3133 * box["width"])) < 4

    # The page is no wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    # A reload, and the link in another tab, show the same; what that tab does changes nothing here.
    page.reload()
    expect(page.locator(".st-key-experts .heatmaplayer image")).to_have_count(4)
    other = tab.context.new_page()
    tab.watch(other)
    other.goto(page.url)
    expect(other.locator(".st-key-experts .heatmaplayer image")).to_have_count(4)
    expect(other.get_by_role("radio", name="my dog.jpg")).to_be_checked()
    other.get_by_role("radio", name="Moose").click()
    other.wait_for_url("**image=moose**")
    expect(page.get_by_role("radio", name="my dog.jpg")).to_be_checked()
    tab.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_photo_of_the_camera(address: str, chromium: Any, width: int) -> None:
    from playwright.sync_api import expect

    tab = Tab(chromium, address, width)
    page = tab.page
    page.goto(address)
    expect(page.locator("h4").first).to_have_text("Kitten with yarn")
    page.get_by_role("button", name="Add").first.click()
    page.get_by_role("radio", name="Camera").click()
    # Where nothing comes from the camera yet, the button does nothing.
    page.wait_for_function("document.querySelector('[data-testid=stCameraInput] video')?.videoWidth > 0")
    page.get_by_role("button", name="Take Photo").click()
    expect(page.locator("h4").first).to_have_text("photo.jpg")
    page.wait_for_url("**tray=**")
    # It is a picture like others: first in the strip, chosen, and answered; and nothing is still being read.
    expect(page.get_by_role("radio", name="photo.jpg")).to_be_checked()
    expect(page.locator(".st-key-classes .bars .point")).to_have_count(10)
    expect(page.get_by_test_id("stProgress")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("radio", name="photo.jpg")).to_be_checked()
    tab.close()


def test_an_expert_is_silenced_by_a_click_and_given_back(address: str, chromium: Any) -> None:
    from playwright.sync_api import expect

    tab = Tab(chromium, address, 1280)
    page = tab.page
    page.goto(f"{address}/what-if")
    chart = page.locator("[class*=st-key-silencing]")
    # The second expert of the second router: one click silences it, another gives it back.
    cells = chart.locator(".scatterlayer .point")
    expect(cells).to_have_count(3 * 4)
    cell = cells.nth(5)
    cell.scroll_into_view_if_needed()
    click_middle(page, cell)
    page.wait_for_url("**what=1.w_-_0_-_-**")
    # The chart is drawn anew, with a frame.
    expect(chart.locator(".shapelayer path")).to_have_count(1)
    click_middle(page, cell)
    page.wait_for_function("!location.search.includes('what=')")
    # The address changes before the page is done.
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url("**what=1.w_-_0_-_-**")
    # A slider by the keyboard, and a reload that keeps both.
    thumb = page.get_by_role("slider").first
    thumb.focus()
    thumb.press("ArrowRight")
    page.wait_for_url(re.compile(r"what=1\.w_[\d.]+_0_-_-"))
    page.reload()
    expect(page.get_by_text("Changed: blocks.2.")).to_be_visible()
    tab.close()


def test_a_lasso_makes_a_slice_for_all_pages(address: str, chromium: Any) -> None:
    from playwright.sync_api import expect

    tab = Tab(chromium, address, 1280)
    page = tab.page
    page.goto(f"{address}/usage?section=map")
    chart, count = page.locator(".st-key-map"), len(samples("cifar10"))
    expect(chart.locator(".scatterlayer .point")).to_have_count(count)
    place = chart.locator(".nsewdrag")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box
    left, top, right, bottom = box["x"] + 2, box["y"] + 2, box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(*corner, steps=5)
    page.mouse.up()
    page.get_by_role("button", name=f"Look at these {count} pictures").click()
    page.wait_for_url("**tray=**")
    # The address changes before the page is done, and a way to another page that is asked for meanwhile is lost.
    settle(page)
    page.get_by_role("link", name="Route").click()
    expect(page.locator("h2").first).to_have_text("Route")
    expect(page.locator(".st-key-image button")).to_have_count(count)
    page.get_by_role("link", name="Usage").click()
    page.get_by_role("button", name="Back to all pictures").click()
    page.wait_for_function("!location.search.includes('tray=')")
    tab.close()


@pytest.mark.parametrize("width, scheme", [(1280, "dark"), (390, "light")])
def test_two_models_and_two_pictures(address: str, chromium: Any, width: int, scheme: str) -> None:
    from playwright.sync_api import expect

    tab = Tab(chromium, address, width, scheme)
    page = tab.page
    page.goto(f"{address}/compare")
    # Two bars for each class, a point for each picture and a ring round one, a box for each model.
    expect(page.locator(".st-key-classes-compared .bars .point")).to_have_count(2 * 8)
    points = page.locator("[class*=st-key-answers] .scatterlayer .point")
    expect(points).to_have_count(len(samples("cifar10")) + 1)
    expect(page.locator(".st-key-times .boxlayer .box")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A click on a point looks at its picture.
    settle(page)
    before = page.locator("h4").first.text_content()
    first = page.locator("[class*=st-key-answers] .scatterlayer .trace").first.locator(".point")
    for n in range(first.count()):
        first.nth(n).scroll_into_view_if_needed()
        click_middle(page, first.nth(n))
        settle(page)
        if page.locator("h4").first.text_content() != before:
            break
    expect(page.locator("h4").first).not_to_have_text(before or "")
    # More pictures at once, measured by a click; another batch, or the first again, is in the address.
    page.get_by_role("radio", name="4", exact=True).click()
    page.wait_for_url("**batch=4**")
    page.get_by_role("button", name="Measure").click()
    expect(page.get_by_text("for 4 pictures at once")).to_be_visible()
    # Two pictures: the link shows the same in another tab.
    page.get_by_role("radio", name="Two pictures").click()
    page.locator(".st-key-strip-other").get_by_role("radio", name="Moose").click()
    page.wait_for_url("**other=moose**")
    expect(page.locator(".st-key-difference .heatmaplayer image")).to_have_count(1)
    # A click on a cell, once they are all drawn, chooses its layer and expert.
    settle(page)
    cells = page.locator(".st-key-routing-2 .scatterlayer .point")
    expect(cells).to_have_count(3 * 4)
    cells.last.scroll_into_view_if_needed()
    click_middle(page, cells.last)
    page.wait_for_url("**layer=classifier**")
    other = tab.context.new_page()
    tab.watch(other)
    other.goto(page.url)
    expect(other.locator(".st-key-strip-other").get_by_role("radio", name="Moose")).to_be_checked()
    expect(other.locator(".st-key-difference .heatmaplayer image")).to_have_count(1)
    other.get_by_role("button", name="See both kernels").click()
    expect(other.locator("h2").first).to_have_text("Kernels")
    other.wait_for_url("**layer=classifier**")
    expect(other.get_by_text("What their kernels do not share")).to_be_visible()
    assert other.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_costs_are_drawn_while_they_are_measured(address: str, chromium: Any, width: int, scheme: str) -> None:
    from playwright.sync_api import expect

    tab = Tab(chromium, address, width, scheme)
    page = tab.page
    # Each width has a layer of its own, of which nothing is kept yet. With gradients there is time for the first points
    # to be seen, and for stopping.
    page.goto(f"{address}/device?convolution=condconv_small,+blocks.{1 if width > 390 else 2}&mode=training")
    expect(page.get_by_text("Everything that condconv-mlx needs is here.")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    # Two grey lines, and over them, in a layer of its own, the other one.
    points = page.locator(".st-key-experts-time .scatterlayer .point")
    expect(points.first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Measure again")).to_be_visible()
    page.get_by_role("radio", name="Inference").click()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("button", name="Measure again")).to_be_enabled()
    expect(points).to_have_count(2 * 6)
    expect(page.get_by_text("With 8 experts, one convolution of the mixed kernel takes")).to_be_visible()
    page.get_by_role("button", name="Check functions and gradients").click()
    expect(page.get_by_text("checks agree with plain loops")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A reload finds what was kept.
    page.reload()
    expect(points).to_have_count(2 * 6)
    tab.close()


def settle(page: Any) -> None:
    """Until the page has run, and its charts are drawn."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.wait_for_timeout(1000)


def click_middle(page: Any, cell: Any) -> None:
    place = cell.bounding_box()
    assert place
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
