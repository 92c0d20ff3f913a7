"""Training runs as one HTML page: their settings, and their curves overlaid."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from condconv_mlx.charts.training import Line, curves, expert_history
from condconv_mlx.report import Chart, document, drawn, plain, table
from condconv_mlx.runs import Run, differing, shown

FEW = 3  # runs up to which the accuracy on training images is drawn, too
HEALTH = {
    "entropy": "Entropy of the routing weights: 1 if an image uses all experts alike, 0 if one alone",
    "saturated": "Share of routing weights that are almost 0 or 1, and hardly learn any more",
    "deviation": "How much a routing weight differs from image to image; 0 if the images do not matter",
}


def page(runs: Sequence[Run]) -> str:
    """The page. Of one run it also shows how each router used its experts, epoch by epoch."""
    sections = [table(_overview(runs))]
    differ = differing(runs)
    if differ:
        rows = [("settings", *(run.name for run in runs)), *((name, *map(shown, row)) for name, row in differ.items())]
        sections.append(f"<h2>Settings that differ</h2>{table(rows)}")
    charts = _charts(runs)
    if charts:
        sections.append(f"<h2>Curves</h2>{drawn(charts, script=True)}")
    if charts and len(runs) == 1:
        for router, figure in _experts(runs[0]):
            sections.append(f"<h2>{plain(router)}</h2>{drawn([('Use of its experts', figure)], script=False)}")
    return document("Training runs", "".join(sections))


def _overview(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("run", "state", "network", "data", "epochs", "held out", "test")]
    for run in runs:
        accuracies = ["" if share is None else f"{share:.2%}" for share in (run.held_out_accuracy, run.test_accuracy)]
        rows.append((run.name, run.status.state, run.network, str(run.settings["data"]), run.epochs, *accuracies))
    return rows


def _charts(runs: Sequence[Run]) -> list[Chart]:
    logged = [run for run in runs if run.log.epochs]
    if not logged:
        return []
    loss = [_line(run, "loss", run.name) for run in logged]
    accuracy = [
        line
        for run in logged
        for line in (
            _line(run, "held_out_accuracy", f"{run.name}, held out", 100),
            _line(run, "accuracy", f"{run.name}, training", 100, dashed=True),
        )
        if any(value is not None for value in line.y) and not (line.dashed and len(logged) > FEW)
    ]
    charts = [
        ("Loss on training images", curves(loss)),
        ("Accuracy", curves(accuracy, "%")),
    ]
    # A run keeps its colour where one without routers has no line.
    colours = [run.name for run in logged] if len(logged) > 1 else []
    for what, title in HEALTH.items():
        lines = [line for run in logged for line in _health(run, what, alone=len(logged) == 1)]
        if lines:
            charts.append((title, curves(lines, extent=(0, 1) if what != "deviation" else None, groups=colours)))
    return charts


def _line(run: Run, what: str, name: str, times: float = 1, dashed: bool = False) -> Line:
    values = [None if (value := line.get(what)) is None else times * value for line in run.log.epochs]
    return Line(name, [line["epoch"] for line in run.log.epochs], values, dashed, group=run.name)


def _health(run: Run, what: str, alone: bool) -> list[Line]:
    """A line for each router of a run; of several runs, that of the last router, which tells most."""
    routers = list(run.log.epochs[-1].get("routing") or {})
    return [
        Line(
            router if alone else f"{run.name}, {router}",
            [line["epoch"] for line in run.log.epochs],
            [(line.get("routing") or {}).get(router, {}).get(what) for line in run.log.epochs],
            group="" if alone else run.name,
        )
        for router in (routers if alone else routers[-1:])
    ]


def _experts(run: Run) -> list[tuple[str, Any]]:
    found = []
    for router in run.log.epochs[-1].get("routing") or {}:
        lines = [line for line in run.log.epochs if router in (line.get("routing") or {})]
        usage = np.array([line["routing"][router]["experts"] for line in lines])
        found.append((router, expert_history([line["epoch"] for line in lines], usage)))
    return found
