"""Device: the report, the lines as they come, and what stays when a run is stopped."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_material import figure, go_to, numbers, open_app, texts
from streamlit.testing.v1 import AppTest

from condconv_mlx import doctor, verify
from condconv_mlx.app import device_report, engine
from condconv_mlx.app.views import device
from condconv_mlx.bench import kept
from condconv_mlx.bench.cases import EXPERT_COUNTS, LIVE, Shape
from condconv_mlx.bench.experts import ExpertRow, measure_in_turns
from condconv_mlx.verify import Check

REPORT = {
    "version": "0.1.0",
    "python": {"version": "3.12.1", "architecture": "arm64", "executable": "/bin/python"},
    "system": {"name": "macOS", "version": "15.2"},
    "mlx": {"version": "0.32.4", "backends": ["mlx-metal 0.32.4"], "device": "gpu", "device_name": "Apple <M3>"},
    "cpu": {"blas": "Accelerate", "memory_kept": False},
    "speed": {"gflops": 2400.0, "write_gb_per_s": None, "plain_gflops": None, "plain_write_gb_per_s": None},
    "tuning": {"cases": 3, "file": "/cache/tuning.json"},
    "datasets": {"cifar10": None},
    "weights": ["condconv_small_cifar10"],
    "problems": [],
    "advice": ["for HEIC photos: pip install pillow_heif"],
}


@pytest.fixture(autouse=True)
def reports(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Nothing is measured; the reports that were asked for. Changing REPORT's copy here changes the next one."""
    asked: list[dict[str, Any]] = []

    def examine(call: Any) -> dict[str, Any]:
        assert call is engine.turn
        asked.append(dict(REPORT))
        return asked[-1]

    monkeypatch.setattr(doctor, "examine", examine)
    device_report.examined.clear()
    yield asked
    device_report.examined.clear()


def row(shape: Shape, backward: bool, experts: int) -> ExpertRow:
    return ExpertRow(shape, backward, experts, {"kernels": 1.0 + experts / 40, "outputs": float(experts), "static": 1})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of experts, as they are measured by something quick."""
    counts: list[int] = []

    def measure(shape: Shape, backward: bool, experts: int) -> Iterator[tuple[float, ExpertRow | None]]:
        counts.append(experts)
        yield 0.5, None
        yield 1.0, row(shape, backward, experts)

    monkeypatch.setattr(device, "measure_in_turns", measure)
    return counts


def line(chart: Any, name: str) -> list[float]:
    (found,) = [line for line in chart.data if line.name == device.NAMES[name]]
    return numbers(found.y).tolist()


def press(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


def test_the_report_is_shown_and_made_once_for_all_tabs(reports: list[dict[str, Any]]) -> None:
    app = open_app("device")
    assert not app.exception
    assert "Everything that condconv-mlx needs is here." in texts(app.success)
    facts = "".join(element.proto.body for element in app.get("html"))
    assert "2400 GFLOP/s" in facts and "3 cases measured" in facts and "Apple &lt;M3&gt;" in facts
    assert "For HEIC photos: pip install pillow_heif." in texts(app.markdown)
    open_app("device")
    go_to(go_to(app, "usage"), "device")
    assert len(reports) == 1
    press(app, "look again")
    assert len(reports) == 2


def test_problems_come_first_as_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "mlx-cpu and mlx-cuda-13 are both installed: pip uninstall one"
    monkeypatch.setattr(doctor, "examine", lambda _: REPORT | {"problems": [problem]})
    app = open_app("device")
    assert texts(app.error) == f"{problem[0].upper()}{problem[1:]}."
    assert not app.success


def test_nothing_is_measured_before_it_is_asked_for(measured: list[int]) -> None:
    app = open_app("device")
    assert "Nothing is measured yet" in texts(app.info)
    assert app.button(key="measure").label == "Start"
    assert measured == [] and figure(app, "experts-time") is None


def test_lines_are_drawn_from_one_to_all_and_kept(measured: list[int]) -> None:
    app = press(open_app("device"), "measure")
    assert not app.exception
    assert tuple(measured) == EXPERT_COUNTS
    time_, madds = figure(app, "experts-time"), figure(app, "experts-multiply-adds")
    assert time_ is not None and madds is not None
    for chart in (time_, madds):
        assert [line.name for line in chart.data] == list(device.NAMES.values())
        assert all(numbers(line.x).tolist() == list(EXPERT_COUNTS) for line in chart.data)
    assert line(time_, "outputs") == list(EXPERT_COUNTS)
    # 14 × 14 positions, 112 × 672 parameters: a convolution is 14.75 million.
    assert line(madds, "static") == pytest.approx([14.751744] * 6)
    assert line(madds, "kernels")[3] == pytest.approx(14.751744 + 8 * 0.075264)
    said = "With 8 experts, one convolution of the mixed kernel takes **1.2 times** as long as a static one, and eight"
    assert said in texts(app.markdown) and "**8.0 times**" in texts(app.markdown)
    assert app.button(key="measure").label == "Measure again"
    # Another tab, and one that comes later, find it; another layer is yet to be measured.
    other = open_app("device")
    assert line(figure(other, "experts-time"), "outputs") == list(EXPERT_COUNTS)
    other.selectbox(key="convolution").set_value(list(LIVE)[1]).run()
    assert figure(other, "experts-time") is None and "Nothing is measured yet" in texts(other.info)
    assert len(measured) == len(EXPERT_COUNTS)


def test_training_is_measured_with_its_own_images(measured: list[int]) -> None:
    app = open_app("device", mode="training", convolution="condconv_small, blocks.2")
    press(app, "measure")
    (key,) = engine.turn(kept.load)
    assert key == (LIVE["condconv_small, blocks.2"][1], True)
    assert "8 images at once, 108→144, 3×3 at 8×8, float32, with all gradients" in texts(app.caption)


def test_what_was_measured_stays_after_a_stop(monkeypatch: pytest.MonkeyPatch, measured: list[int]) -> None:
    app = open_app("device")
    shape, backward = device.LIVE["EfficientNet-B0"][0], False
    # As a click on Stop leaves it, after two points.
    app.session_state["measured"] = {(shape, backward): ([row(shape, backward, n) for n in (1, 2)], "")}
    app.session_state["measuring"] = False
    app.run()
    assert numbers(figure(app, "experts-time").data[0].x).tolist() == [1, 2]  # type: ignore[union-attr]
    assert "With 2 experts" in texts(app.markdown) and "and two take" in texts(app.markdown)
    # The axis has room for those that are not there.
    assert list(figure(app, "experts-time").layout.xaxis.tickvals) == list(EXPERT_COUNTS)  # type: ignore[union-attr]
    # A run that was interrupted, by another page say, goes on where it was.
    app.session_state["measuring"] = True
    app.run()
    assert measured == [4, 8, 16, 32]
    press(app, "measure")
    assert measured == [4, 8, 16, 32, *EXPERT_COUNTS]


def test_a_full_disk_loses_nothing_of_the_tab(monkeypatch: pytest.MonkeyPatch, measured: list[int]) -> None:
    def full(rows: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(kept, "keep", full)
    app = press(open_app("device"), "measure")
    assert not app.exception
    assert numbers(figure(app, "experts-time").data[0].x).tolist() == list(EXPERT_COUNTS)  # type: ignore[union-attr]


def test_functions_are_checked_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Check("conv2d", "float32", 1e-4, 2, 1e-6)
    wrong = Check("relu", "float16", 1e-2, 3, 0.5, "gradient of x, 8×8")
    threads: set[str] = set()

    def checked(check: Check) -> Any:
        def run() -> Check:
            threads.add(threading.current_thread().name)
            return check

        return run

    monkeypatch.setattr(device_report, "checks", lambda: [checked(right)])
    app = press(open_app("device"), "check")
    assert "All 1 checks agree" in texts(app.success)
    assert "| 1.0e-06 |" in texts(app.markdown).replace("\\", "")
    monkeypatch.setattr(device_report, "checks", lambda: [checked(right), checked(wrong)])
    press(app, "check")
    assert "1 of 2 checks are wrong" in texts(app.error) and "relu, float16: gradient of x, 8×8" in texts(app.error)
    assert all(name.startswith("mlx") for name in threads)


def test_what_is_checked_is_what_the_command_checks() -> None:
    assert device_report.checks is verify.checks


def test_others_have_their_turn_at_every_step() -> None:
    # Of the real thing.
    steps = 0
    for _ in engine.turns(measure_in_turns, Shape(1, 5, 3, 4, 3), False, 32):
        steps += engine.turn(int, "1")
    assert steps > 20
