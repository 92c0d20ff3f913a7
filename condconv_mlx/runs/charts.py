"""The charts of training runs, each with its title and its numbers: for the page of `condconv-mlx runs` and the app."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from condconv_mlx.charts.training import Line, curves, expert_history
from condconv_mlx.runs.finding import Run

FEW = 3  # runs up to which what is measured on training images is drawn beside what is measured on held-out ones
POINTS = 1000  # of a line, at most
WILD = 5  # times its median, a loss is drawn on a logarithmic axis
HEALTH = {
    "entropy": (
        "How evenly the experts are used",
        "Entropy of the routing weights: 1 if an image uses all experts alike, 0 if one alone.",
    ),
    "saturated": (
        "Routing weights that are almost 0 or 1",
        "The share of weights below 0.05 or above 0.95, which hardly learn any more.",
    ),
    "deviation": (
        "How much routing differs from image to image",
        "The standard deviation of a routing weight over held-out images, mean over experts: 0 if no image matters.",
    ),
}


@dataclass(frozen=True)
class RunChart:
    """A chart, and what stands round it.

    Attributes:
        name: one word.
        title: in plain words.
        figure: the chart, Plotly's.
        table: header and rows of the numbers behind it.
        help: how to read it.
    """

    name: str
    title: str
    figure: Any
    table: tuple[list[str], list[list[Any]]]
    help: str = ""


def learning(runs: Sequence[Run]) -> list[RunChart]:
    """Loss and accuracy. Full lines are held-out images, dotted ones training images, as far as they are drawn."""
    logged = [run for run in runs if run.log.steps or run.log.epochs]
    few, of = len(logged) <= FEW, {run.path: f"{run.name}, " if len(logged) > 1 else "" for run in runs}
    both = "Full lines are images held out of the training set, dotted ones training images as they are augmented."
    charts = []
    for name, title, times, unit in (("loss", "Loss (cross-entropy)", 1, ""), ("accuracy", "Accuracy", 100, "%")):
        lines = [
            line
            for run in logged
            for line in (
                _line(run.log.epochs, f"held_out_{name}", f"{of[run.path]}held out", run, times),
                _line(run.log.steps or run.log.epochs, name, f"{of[run.path]}training", run, times, dashed=True),
            )
            if _has_values(line) and (few or not line.dashed)
        ]
        if lines:
            charts.append(_chart(name, title, lines, runs, unit, help=both))
    return charts


def pace(runs: Sequence[Run]) -> list[RunChart]:
    """Learning rate, throughput and memory."""
    wanted = (
        ("learning_rate", "Learning rate", ""),
        ("images_per_second", "Images a second", ""),
        ("memory_mb", "Largest memory so far", "MB"),
    )
    charts = []
    for name, title, unit in wanted:
        lines = [line for run in runs if _has_values(line := _line(run.log.steps, name, run.name, run))]
        if lines:
            charts.append(_chart(name.replace("_", "-"), title, lines, runs, unit))
    return charts


def health(runs: Sequence[Run]) -> list[RunChart]:
    """What the routing does: of one run a line for each router, of several one for the last, which tells most."""
    logged = [run for run in runs if run.log.epochs]
    charts = []
    for what, (title, help) in HEALTH.items():
        lines = [line for run in logged for line in _health(run, what, alone=len(logged) == 1)]
        if lines:
            extent = (0, 1) if what != "deviation" else None
            charts.append(_chart(what, title, lines, logged if len(logged) > 1 else [], help=help, extent=extent))
    return charts


def routers(run: Run) -> list[str]:
    """The names of a run's routers, in their order; none before its first epoch is over, or if it is static."""
    return list(run.log.epochs[-1].get("routing") or {}) if run.log.epochs else []


def experts(run: Run, router: str) -> RunChart:
    """How a router used its experts, epoch by epoch."""
    lines = [line for line in _thinned(run.log.epochs) if router in (line.get("routing") or {})]
    epochs, usage = [line["epoch"] for line in lines], [line["routing"][router]["experts"] for line in lines]
    return RunChart(
        name="experts",
        title=f"Which experts {router.removesuffix('.router')} used",
        figure=expert_history(epochs, np.array(usage)),
        table=(
            ["epoch", *[f"expert {i + 1}" for i in range(len(usage[0]))]],
            [[epoch, *row] for epoch, row in zip(epochs, usage, strict=True)],
        ),
        help="The mean routing weight of each expert over held-out images. An expert that collapses fades.",
    )


def _chart(
    name: str,
    title: str,
    lines: list[Line],
    runs: Sequence[Run],
    unit: str = "",
    help: str = "",
    extent: tuple[float, float] | None = None,
) -> RunChart:
    values = [y for line in lines for y in line.y if y is not None]
    # One wild epoch at the beginning would flatten all that follows.
    wild = name == "loss" and max(values) > WILD * np.median(values) and min(values) > 0
    # A run keeps its colour where another has no line.
    groups = [run.name for run in runs] if len(runs) > 1 else []
    rows = [[line.name, x, y] for line in lines for x, y in zip(line.x, line.y, strict=True)]
    header = ["line", "epoch", f"{name} ({unit})" if unit else name]
    return RunChart(name, title, curves(lines, unit, extent, bool(wild), groups=groups), (header, rows), help)


def _line(
    logged: Sequence[dict[str, Any]], what: str, name: str, run: Run, times: float = 1, dashed: bool = False
) -> Line:
    logged = _thinned(logged)
    values = [None if (value := line.get(what)) is None else times * value for line in logged]
    return Line(name, [line["epoch"] for line in logged], values, dashed, group=run.name)


def _thinned(lines: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Of very many lines of a log some, evenly, with the last of them."""
    return lines[:: -(-(-len(lines) // POINTS) or 1)][::-1]


def _has_values(line: Line) -> bool:
    return any(value is not None for value in line.y)


def _health(run: Run, what: str, alone: bool) -> list[Line]:
    names = routers(run)
    return [
        Line(
            router if alone else f"{run.name}, {router}",
            [line["epoch"] for line in _thinned(run.log.epochs)],
            [(line.get("routing") or {}).get(router, {}).get(what) for line in _thinned(run.log.epochs)],
            group="" if alone else run.name,
        )
        for router in (names if alone else names[-1:])
    ]
