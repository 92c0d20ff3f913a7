"""A training from its start to its result, as its user sees it in a real Chromium.

Needs the browser extra, and the path of a Chromium in CONDCONV_MLX_BROWSER.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_app_browser import Tab, chromium, pytestmark, served  # noqa: F401

from condconv_mlx.runs import process as runs_process
from condconv_mlx.runs.finding import find_runs

WIDTHS = [(1280, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the app's runs lie. None of them goes on when the tests are over."""
    folder = tmp_path_factory.mktemp("runs")
    yield folder
    for path in folder.iterdir():
        runs_process.stop(path)


@pytest.fixture(scope="module")
def address(untrained: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with runs of its own."""
    folder = tmp_path_factory.mktemp("app")
    yield from served(
        folder / "app.txt",
        CONDCONV_MLX_WEIGHTS=str(untrained),
        CONDCONV_MLX_CACHE=str(folder / "cache"),
        CONDCONV_MLX_RUNS=str(runs),
    )


@pytest.mark.parametrize(("width", "scheme"), WIDTHS)
def test_train_stop_go_on_and_open(
    address: str,  # noqa: F811
    chromium: Any,  # noqa: F811
    runs: Path,
    pictures: Path,
    width: int,
    scheme: str,
) -> None:
    from playwright.sync_api import expect

    name = f"at {width}"
    tab = Tab(chromium, address, width, scheme)
    page = tab.page
    page.goto(f"{address}/train")
    fill_form(page, pictures, name, opened=not list(runs.iterdir()))
    page.get_by_role("button", name="Start", exact=True).click()
    card = page.locator("[class*=st-key-run-]")
    expect(card.get_by_text(name, exact=True)).to_be_visible()
    # An epoch is over, and its curves are drawn.
    expect(card.get_by_text(re.compile(r"epoch [1-9]\d* of 1000"))).to_be_visible()
    expect(page.locator(".st-key-accuracy .scatterlayer .trace")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    card.get_by_role("button", name="Stop").click()
    expect(card.get_by_text("stopped", exact=True)).to_be_visible()
    (run,) = [run for run in find_runs(runs) if run.name == name]
    assert run.status.state == "stopped" and (run.log.end or {})["reason"] == "stopped"
    page.get_by_role("radio", name="Routing").click()
    expect(page.locator(".st-key-experts-classifier-router .heatmaplayer image")).to_have_count(1)

    card.get_by_role("button", name="Go on").click()
    expect(card.get_by_text("training", exact=True)).to_be_visible()
    # A reload shows the same, while it goes on.
    page.reload()
    expect(card.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.locator(".st-key-experts-classifier-router .heatmaplayer image")).to_have_count(1)
    card.get_by_role("button", name="Open on Route").click()
    expect(page.locator("h2").first).to_have_text("Route")
    expect(page.locator(".st-key-classes .bars .point")).to_have_count(2)
    assert "best.safetensors" in page.url

    page.goto(f"{address}/train?runs={run.path}")
    card.get_by_role("button", name="Stop").click()
    card.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(card.get_by_text(name, exact=True)).to_have_count(0)
    assert not run.path.exists()
    tab.close()


def test_a_training_outlives_the_app(untrained: Path, chromium: Any, pictures: Path, tmp_path: Path) -> None:  # noqa: F811
    from playwright.sync_api import expect

    runs = tmp_path / "runs"
    folders = {"CONDCONV_MLX_CACHE": str(tmp_path / "cache"), "CONDCONV_MLX_RUNS": str(runs)}
    first, second = (
        served(tmp_path / f"{name}.txt", CONDCONV_MLX_WEIGHTS=str(untrained), **folders) for name in ("first", "second")
    )
    address = next(first)  # noqa: F811
    try:
        tab = Tab(chromium, address, 1280)
        tab.page.goto(f"{address}/train")
        fill_form(tab.page, pictures, "long", opened=True)
        tab.page.get_by_role("button", name="Start", exact=True).click()
        expect(tab.page.locator("[class*=st-key-run-]").get_by_text("training", exact=True)).to_be_visible()
        tab.close()
        # Its fixture's end is the app's.
        assert next(first, None) is None
        assert runs_process.alive(runs / "long")
        address = next(second)
        tab = Tab(chromium, address, 1280)
        tab.page.goto(f"{address}/train")
        card = tab.page.locator("[class*=st-key-run-]")
        expect(card.get_by_text("training", exact=True)).to_be_visible()
        card.get_by_role("button", name="Stop").click()
        expect(card.get_by_text("stopped", exact=True)).to_be_visible()
        tab.close()
        assert next(second, None) is None
    finally:
        runs_process.stop(runs / "long")


def fill_form(page: Any, pictures: Path, name: str, opened: bool) -> None:
    """A tiny network on a folder of tiny pictures, by the keyboard where that is quicker."""
    if not opened:
        page.get_by_text("New training").click()
    page.get_by_role("combobox", name="Images").click()
    page.get_by_role("option", name="a folder or zip of mine").click()
    fill(page.get_by_role("textbox", name="Path, of a folder"), str(pictures))
    page.get_by_text("2 classes, 84 pictures").wait_for()
    page.get_by_role("paragraph").filter(has_text="Advanced").last.click()
    for label, value in {"Epochs": 1000, "Batch size": 8, "Width": 4}.items():
        # Drawn anew while it is typed into, the form was once seen to close, on a loaded machine.
        page.wait_for_timeout(200)
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        fill(page.get_by_role("spinbutton", name=label), str(value))
    fill(page.get_by_role("textbox", name="Name"), name)
    page.locator("code", has_text=re.compile(f"--epochs 1000 --batch-size 8 --width 4 .*{name}")).wait_for()


def fill(box: Any, value: str) -> None:
    """Type, and press Enter."""
    box.fill(value)
    box.press("Enter")
