"""Accuracies over seeds and their differences, with intervals: a row each, a dot for every seed.

Like those of measurements, these stand on a page of their own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from condconv_mlx.charts.bench import AXIS, GREY, GRID, ROW
from condconv_mlx.charts.style import ACCENT, layout, plain

SEEDS = "rgba(134, 142, 150, 0.6)"


class Row(NamedTuple):
    """One line of a chart.

    Attributes:
        name: shown on the left.
        detail: a second, smaller line for it, or "".
        mean: the large dot.
        interval: low and high, or None where there is one seed alone.
        values: by seed, the small dots.
        accented: in the accent colour.
    """

    name: str
    detail: str
    mean: float
    interval: tuple[float, float] | None
    values: dict[int, float]
    accented: bool = False


def accuracies(rows: Sequence[Row]) -> go.Figure:
    """Accuracies in per cent, the first row at the top."""
    figure = _rows(rows, "%{x:.2f} %")
    figure.update_xaxes(title={"text": "test accuracy (%)", "standoff": 8})
    return figure


def differences(rows: Sequence[Row], target: float | None = None) -> go.Figure:
    """Differences in points beside a line at 0, and a dotted one at a target."""
    figure = _rows(rows, "%{x:+.2f} points")
    figure.add_vline(0, line={"color": GREY, "width": 1.5})
    if target is not None:
        figure.add_vline(target, line={"color": GREY, "width": 1, "dash": "dot"})
    low, high = _extent(rows, *([0.0] if target is None else [0.0, target]))
    figure.update_xaxes(title={"text": "difference (points)", "standoff": 8}, range=[low, high], tickformat="+.2~f")
    return figure


def by_experts(counts: Sequence[int], rows: Sequence[Row], reference: tuple[str, float]) -> go.Figure:
    """Accuracy in per cent against the number of experts, with a dashed line for the static network's mean."""
    figure = go.Figure()
    figure.add_scatter(
        x=[count for count, row in zip(counts, rows, strict=True) for _ in row.values],
        y=[value for row in rows for value in row.values.values()],
        mode="markers",
        marker={"color": SEEDS, "size": 6},
        customdata=[seed for row in rows for seed in row.values],
        hovertemplate="seed %{customdata}: %{y:.2f} %<extra></extra>",
    )
    halves = [row.interval[1] - row.mean if row.interval else 0 for row in rows]
    figure.add_scatter(
        x=list(counts),
        y=[row.mean for row in rows],
        mode="lines+markers",
        line={"color": ACCENT, "width": 3},
        marker={"size": 10},
        error_y={"array": halves, "color": ACCENT, "thickness": 2, "width": 5},
        customdata=halves,
        hovertemplate="%{x} experts: %{y:.2f} ± %{customdata:.2f} %<extra></extra>",
    )
    name, value = reference
    figure.add_hline(
        value,
        line={"color": GREY, "width": 1.5, "dash": "dash"},
        annotation={"text": f"{plain(name)} {value:.2f} %", "font": {"size": 12}},
        annotation_position="bottom right",
    )
    axis = {"gridcolor": GRID, "zeroline": False, "fixedrange": True}
    figure.update_xaxes(title={"text": "experts", "standoff": 8}, type="log", tickvals=list(counts), **axis)
    figure.update_yaxes(title={"text": "test accuracy (%)", "standoff": 8}, automargin=True, **axis)
    return layout(figure, 340, 8, AXIS, hovermode="closest")


def _rows(rows: Sequence[Row], shown: str) -> go.Figure:
    figure = go.Figure()
    points = [(place, seed, value) for place, row in enumerate(rows) for seed, value in row.values.items()]
    figure.add_scatter(
        x=[value for *_, value in points],
        # A little below the mean, which else lies upon them.
        y=[place + 0.22 for place, *_ in points],
        mode="markers",
        marker={"color": SEEDS, "size": 6},
        customdata=[(plain(rows[place].name), seed) for place, seed, _ in points],
        hovertemplate=f"%{{customdata[0]}}<br>seed %{{customdata[1]}}: {shown}<extra></extra>",
    )
    for accented in (False, True):
        chosen = [(place, row) for place, row in enumerate(rows) if row.accented == accented]
        colour = ACCENT if accented else GREY
        figure.add_scatter(
            x=[row.mean for _, row in chosen],
            y=[place - 0.08 for place, _ in chosen],
            mode="markers",
            marker={"color": colour, "size": 11},
            error_x=_errors([row for _, row in chosen]) | {"color": colour, "thickness": 2, "width": 5},
            customdata=[(plain(row.name), _between(row)) for _, row in chosen],
            hovertemplate=f"<b>%{{customdata[0]}}</b><br>mean {shown}%{{customdata[1]}}<extra></extra>",
        )
    low, high = _extent(rows)
    figure.update_xaxes(range=[low, high], nticks=6, gridcolor=GRID, zeroline=False, fixedrange=True)
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[
            plain(row.name) + (f"<br><span style='font-size:10px'>{plain(row.detail)}</span>" if row.detail else "")
            for row in rows
        ],
        range=[len(rows) - 0.5, -0.5],
        ticklabelstandoff=8,
        showgrid=False,
        zeroline=False,
        automargin=True,
        fixedrange=True,
    )
    return layout(figure, 8 + (ROW + 8) * len(rows) + AXIS, 8, AXIS, hovermode="closest")


def _errors(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "array": [row.interval[1] - row.mean if row.interval else 0 for row in rows],
        "arrayminus": [row.mean - row.interval[0] if row.interval else 0 for row in rows],
    }


def _between(row: Row) -> str:
    return f", {row.interval[0]:.2f} to {row.interval[1]:.2f}" if row.interval else ""


def _extent(rows: Sequence[Row], *others: float) -> tuple[float, float]:
    """A range with all dots and intervals in it, and some room."""
    numbers = [number for row in rows for number in (*row.values.values(), *(row.interval or ()))]
    numbers += others
    low, high = min(numbers), max(numbers)
    room = 0.08 * (high - low) or 0.5
    return low - room, high + room
