"""Learning curves and the health of the routing while a network trains; a run's own or those of several overlaid."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from condconv_mlx.charts.bench import AXIS, GREY, GRID, LEGEND
from condconv_mlx.charts.style import ACCENT, COLORBAR, SEQUENTIAL, colorbar, expert_names, layout, plain

# After the accent those of Okabe and Ito that both backgrounds show.
COLOURS = (ACCENT, "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", GREY)
HEIGHT = 320
ROW = 22


class Line(NamedTuple):
    """One curve: y over x, which are as long. A y that is None or NaN leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    dashed: bool = False
    group: str = ""  # lines of one group have one colour; by default each has its own


def curves(
    lines: Sequence[Line],
    unit: str = "",
    extent: tuple[float, float] | None = None,
    logarithmic: bool = False,
    x_title: str = "epoch",
    groups: Sequence[str] = (),
) -> go.Figure:
    """Lines over epochs, such as loss, accuracy, the learning rate, or each router's entropy.

    Args:
        lines: groups beyond the seventh colour begin with the first again.
        unit: behind the numbers.
        extent: of the y axis; by default what the lines need.
        logarithmic: the y axis.
        x_title: of the x axis.
        groups: these have the first colours, in this order, so that a group has the same in several charts.
    """
    order = list(dict.fromkeys([*groups, *(line.group or line.name for line in lines)]))
    figure = go.Figure()
    for line in lines:
        if len(line.x) != len(line.y):
            raise ValueError(f"the line {line.name} has {len(line.x)} positions and {len(line.y)} values")
        colour = COLOURS[order.index(line.group or line.name) % len(COLOURS)]
        figure.add_scatter(
            x=list(line.x),
            y=list(line.y),
            name=plain(line.name),
            # A single epoch is no line.
            mode="lines+markers" if len(line.x) <= 40 else "lines",
            line={"color": colour, "width": 2} | ({"dash": "dot"} if line.dashed else {}),
            marker={"size": 5},
            hovertemplate=f"{plain(line.name)}<br>{plain(x_title)} %{{x:.4~g}}: %{{y:.4~g}}{plain(unit and ' ' + unit)}"
            "<extra></extra>",
        )
    axis = {"gridcolor": GRID, "zeroline": False, "fixedrange": True}
    figure.update_xaxes(title={"text": plain(x_title), "standoff": 8}, **axis)
    figure.update_yaxes(
        ticksuffix=plain(unit and f" {unit}"),
        type="log" if logarithmic else "linear",
        range=extent,
        automargin=True,
        **axis,
    )
    layout(figure, HEIGHT, LEGEND, AXIS, hovermode="closest")
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
    return figure.update_layout(showlegend=len(lines) > 1, legend=legend)


def expert_history(epochs: Sequence[float], usage: np.ndarray) -> go.Figure:
    """How much one router used each expert, epoch by epoch: a row for each expert. A collapsed one fades.

    Args:
        epochs: T of them, ascending.
        usage: the mean routing weight of each expert, (T, E) in [0, 1].
    """
    usage = np.asarray(usage, dtype=np.float64)
    if usage.ndim != 2 or len(usage) != len(epochs) or not len(epochs):
        raise ValueError(f"usage must be ({len(epochs)}, E), a row for each epoch, got shape {usage.shape}")
    experts = usage.shape[1]
    figure = go.Figure(
        go.Heatmap(
            z=usage.T,
            # The edges of the cells, since epochs of a stopped run may lie closer to each other.
            x=_edges(epochs),
            y=np.arange(experts + 1) - 0.5,
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            xgap=1 if len(epochs) <= 60 else 0,
            ygap=1,
            customdata=[[(name, epoch) for epoch in epochs] for name in expert_names(experts)],
            hovertemplate="Expert %{customdata[0]}<br>epoch %{customdata[1]:.4~g}<br>mean routing weight %{z:.3f}"
            "<extra></extra>",
            colorbar=colorbar("mean routing weight", tickvals=[0, 0.5, 1], y=-AXIS / (ROW * experts)),
        )
    )
    plain_axis = {"showgrid": False, "zeroline": False, "fixedrange": True}
    figure.update_xaxes(title={"text": "epoch", "standoff": 4}, **plain_axis)
    figure.update_yaxes(
        tickvals=list(range(experts)),
        # In a line: a row is too low for two.
        ticktext=[name.replace("<br>", " ") for name in expert_names(experts)],
        range=[experts - 0.5, -0.5],
        title={"text": "expert", "standoff": 8},
        automargin=True,
        **plain_axis,
    )
    return layout(figure, 8 + ROW * experts + AXIS + COLORBAR, 8, AXIS + COLORBAR, hovermode="closest")


def _edges(positions: Sequence[float]) -> list[float]:
    """Half way between neighbours, and as far beyond the first and the last."""
    if len(positions) == 1:
        return [positions[0] - 0.5, positions[0] + 0.5]
    middles = [(a + b) / 2 for a, b in pairwise(positions)]
    return [2 * positions[0] - middles[0], *middles, 2 * positions[-1] - middles[-1]]
