"""Routing weights as heatmaps: routers × experts of one image, images × experts of one router."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from condconv_mlx.charts.style import (
    COLORBAR,
    DIVERGING,
    GREY,
    SEQUENTIAL,
    colorbar,
    expert_color,
    expert_names,
    layout,
    plain,
)

ROW = 40
SMALL_ROW = 26
MANY = 20
TOP = 66
BARS = 250


def routing_heatmap(
    routers: Sequence[str],
    layers: Sequence[Sequence[str]],
    weights: Sequence[np.ndarray],
    usual: Sequence[np.ndarray] | None = None,
    selected: int | None = None,
    expert: int | None = None,
    clickable: bool = False,
    difference: bool = False,
    other: str | None = None,
) -> go.Figure:
    """Routing weights of one image: a row for each router in order of execution, a column for each expert.

    Args:
        routers: their names.
        layers: for each router the names of the layers that it feeds.
        weights: for each router its routing weights (E,), in [0, 1]; E may differ.
        usual: for each router the weights to compare with (E,), which the hover then tells.
        selected: index of the router to name in bold.
        expert: index of an expert of that router, whose cell is framed in the expert's colour.
        clickable: lay a nearly transparent marker over each cell, since a click on a heatmap selects no point.
            A point's `customdata` starts with the index of the router.
        difference: colour the cells by what they exceed the usual weights by.
        other: what `usual` are the weights of, if they are not the usual ones.
    """
    if not len(routers) == len(layers) == len(weights) == len(weights if usual is None else usual):
        raise ValueError(f"got {len(routers)} routers, {len(layers)} lists of layers and {len(weights)} of weights")
    if difference and usual is None:
        raise ValueError("a difference needs usual weights")
    columns = max((len(row) for row in weights), default=0)
    table, beside = np.full((2, len(weights), columns), np.nan)
    for i, row in enumerate(weights):
        table[i, : len(row)] = row
        if usual is not None:
            beside[i, : len(row)] = usual[i]
    said = "usually" if other is None else plain(other)
    feeds = [plain(", ".join(names)) for names in layers]
    cells = [
        [(i, feeds[i], table[i, j], compared(table[i, j], beside[i, j], said), j + 1) for j in range(columns)]
        for i in range(len(routers))
    ]
    hover = "Expert %{customdata[4]}<br>routing weight %{customdata[2]:.3f}%{customdata[3]}<br>mixes %{customdata[1]}"
    names = [f"<b>{plain(name)}</b>" if i == selected else plain(name) for i, name in enumerate(routers)]
    figure = expert_heatmap(
        table - beside if difference else table, names, cells, f"{hover}<extra>%{{y}}</extra>", clickable
    )
    if difference:
        limit = max(0.1, float(np.nanmax(np.abs(table - beside))))
        bar = colorbar(f"more or less than {plain(other or 'usual')}", tickvals=[-limit, 0, limit], tickformat="+.2f")
        figure.data[0].update(colorscale=DIVERGING, zmin=-limit, zmax=limit, colorbar=bar)
    if selected is not None and expert is not None and expert < len(weights[selected]):
        corner = {"x0": expert - 0.5, "x1": expert + 0.5, "y0": selected - 0.5, "y1": selected + 0.5}
        figure.add_shape(type="rect", **corner, line={"color": expert_color(expert), "width": 3})
    return figure


def compared(weight: float, usual: float, said: str = "usually") -> str:
    """How much more active an expert is than usual, for a hover: ", usually 0.410: 2.0 times as active"."""
    if np.isnan(usual):
        return ""
    times = f": {weight / usual:.1f} times as active" if usual >= 0.01 else ""
    return f", {said} {usual:.3f}{times}"


def expert_bars(weights: np.ndarray, usual: np.ndarray | None = None, selected: int | None = None) -> go.Figure:
    """One router's weights for one image as bars in the experts' colours, each with a line where it usually ends.

    Args:
        weights: (E,) in [0, 1].
        usual: (E,), or None for bars alone.
        selected: index of the expert to draw full, the others being paler; None draws all full.
    """
    if weights.ndim != 1 or (usual is not None and usual.shape != weights.shape):
        raise ValueError(f"weights must be (E,), and usual as many, got {weights.shape}")
    count = len(weights)
    x = list(range(count))
    notes = [(i + 1, compared(weight, math.nan if usual is None else usual[i])) for i, weight in enumerate(weights)]
    figure = go.Figure(
        go.Bar(
            x=x,
            y=weights,
            customdata=notes,
            marker={
                "color": [expert_color(i) for i in x],
                "opacity": [1 if selected in (None, i) else 0.45 for i in x],
                "cornerradius": 3,
            },
            hovertemplate="Expert %{customdata[0]}<br>routing weight %{y:.3f}%{customdata[1]}<extra></extra>",
        )
    )
    if usual is not None:
        for i, value in enumerate(usual):
            ends = {"x0": i - 0.42, "x1": i + 0.42, "y0": value, "y1": value}
            figure.add_shape(type="line", **ends, line={"color": GREY, "width": 2, "dash": "dot"})
    axis = {"fixedrange": True, "showgrid": False, "zeroline": False}
    figure.update_xaxes(tickvals=x, ticktext=expert_names(count), **axis)
    # Plotly would set the title of the axis into the second line of its labels.
    middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0, "yanchor": "top", "yshift": -44}
    figure.add_annotation(text="expert", showarrow=False, font={"size": 14}, **middle)
    figure.update_yaxes(range=[0, 1.02], tickvals=[0, 0.5, 1], title="routing weight", **axis)
    return layout(figure, BARS, 8, TOP + 14, bargap=0.25)


def expert_usage(
    names: Sequence[str],
    weights: np.ndarray,
    notes: Sequence[str] | None = None,
    thumbnails: Sequence[str] | None = None,
) -> go.Figure:
    """Routing weights of one router: a row for each image, a column for each expert.

    Args:
        names: of the images; equal names stay apart.
        weights: (N, E) in [0, 1].
        notes: for each image what the hover says of it besides, such as the predicted class.
        thumbnails: for each image a small picture as a data URI, drawn at the head of its row.
    """
    if weights.ndim != 2 or len(weights) != len(names):
        raise ValueError(f"weights must be ({len(names)}, E), a row for each image, got shape {weights.shape}")
    notes = notes or [""] * len(names)
    cells = [[(i, plain(notes[i]), j + 1) for j in range(weights.shape[1])] for i in range(len(names))]
    hover = "Expert %{customdata[2]}<br>routing weight %{z:.3f}<br>%{customdata[1]}<extra>%{y}</extra>"
    figure = expert_heatmap(weights, [plain(name) for name in names], cells, hover)
    if thumbnails:
        figure.update_xaxes(range=[-1.6, weights.shape[1] - 0.5])
        for i, source in enumerate(thumbnails):
            figure.add_layout_image(
                source=source,
                **{"xref": "x", "yref": "y", "x": -1.05, "y": i, "sizex": 0.9, "sizey": 0.9},
                xanchor="center",
                yanchor="middle",
            )
    return figure


def expert_heatmap(
    table: np.ndarray,
    rows: Sequence[str],
    cells: Sequence[Sequence[tuple]],
    hover: str,
    clickable: bool = False,
    row: int | None = None,
    quantity: str = "routing weight",
) -> go.Figure:
    """Anything × experts, as numbers in [0, 1].

    Args:
        table: (rows, experts); NaN where there is no expert.
        rows: their names, in HTML.
        cells: for each cell what the hover takes as `customdata`.
        hover: its template.
        clickable: lay a nearly transparent marker over each cell, which has the `customdata` and the hover.
        row: height of a row in pixels; by default lower where there are many.
        quantity: what the numbers are.
    """
    count, columns = table.shape
    row = row or (ROW if count <= MANY else SMALL_ROW)
    # Positions, not names, on both axes: two images may have the same name.
    x, y = np.arange(columns), np.arange(count)
    figure = go.Figure(
        go.Heatmap(
            z=table,
            x=x,
            y=y,
            customdata=cells,
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            xgap=2,
            ygap=2,
            hoverongaps=False,
            hovertemplate=hover,
            colorbar=colorbar(quantity, tickvals=[0, 0.5, 1]),
        )
    )
    if clickable:
        seen = [(i, j) for i in range(count) for j in range(columns) if not np.isnan(table[i, j])]
        figure.data[0].hoverinfo = "skip"
        figure.data[0].hovertemplate = None
        figure.add_scatter(
            x=[j for _, j in seen],
            y=[i for i, _ in seen],
            mode="markers",
            marker={"symbol": "square", "size": row - 8, "opacity": 0.01},
            customdata=[cells[i][j] for i, j in seen],
            hovertemplate=hover,
        )
    plain = {"ticks": "", "showgrid": False, "zeroline": False, "fixedrange": True}
    # Left to itself, an axis leaves room for half a marker beside the cells.
    figure.update_xaxes(tickvals=x, ticktext=expert_names(columns), range=[-0.5, columns - 0.5], **plain)
    figure.update_xaxes(title={"text": "expert", "standoff": 4}, side="top", automargin=False)
    figure.update_yaxes(tickvals=y, ticktext=rows, range=[count - 0.5, -0.5], **plain)
    figure.update_yaxes(ticksuffix="  ", automargin=True)
    return layout(figure, TOP + row * count + COLORBAR, TOP, COLORBAR, hovermode="closest")
