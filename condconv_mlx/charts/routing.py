"""Routing weights as heatmaps: routers × experts of one image, images × experts of one router."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from condconv_mlx.charts.style import COLORBAR, SEQUENTIAL, colorbar, expert_names, layout, plain

ROW = 40
SMALL_ROW = 26
MANY = 20
TOP = 66


def routing_heatmap(
    routers: Sequence[str],
    layers: Sequence[Sequence[str]],
    weights: Sequence[np.ndarray],
    selected: int | None = None,
    clickable: bool = False,
) -> go.Figure:
    """Routing weights of one image: a row for each router in order of execution, a column for each expert.

    Args:
        routers: their names.
        layers: for each router the names of the layers that it feeds.
        weights: for each router its routing weights (E,), in [0, 1]; E may differ.
        selected: index of the router to name in bold.
        clickable: lay a nearly transparent marker over each cell, since a click on a heatmap selects no point.
            A point's `customdata` starts with the index of the router.
    """
    if not len(routers) == len(layers) == len(weights):
        raise ValueError(f"got {len(routers)} routers, {len(layers)} lists of layers and {len(weights)} of weights")
    columns = max((len(row) for row in weights), default=0)
    table = np.full((len(weights), columns), np.nan)
    for i, row in enumerate(weights):
        table[i, : len(row)] = row
    cells = [[(i, plain(", ".join(layers[i]))) for _ in range(columns)] for i in range(len(routers))]
    hover = "Expert %{x}<br>routing weight %{z:.3f}<br>mixes %{customdata[1]}<extra>%{y}</extra>"
    names = [f"<b>{plain(name)}</b>" if i == selected else plain(name) for i, name in enumerate(routers)]
    return _heatmap(table, names, cells, hover, clickable)


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
    cells = [[(i, plain(notes[i])) for _ in range(weights.shape[1])] for i in range(len(names))]
    hover = "Expert %{x}<br>routing weight %{z:.3f}<br>%{customdata[1]}<extra>%{y}</extra>"
    figure = _heatmap(weights, [plain(name) for name in names], cells, hover, clickable=False)
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


def _heatmap(
    table: np.ndarray, rows: list[str], cells: list[list[tuple[int, str]]], hover: str, clickable: bool
) -> go.Figure:
    count, columns = table.shape
    row = ROW if count <= MANY else SMALL_ROW
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
            colorbar=colorbar("routing weight", tickvals=[0, 0.5, 1]),
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
            customdata=[(*cells[i][j], table[i, j]) for i, j in seen],
            hovertemplate=hover.replace("%{z:", "%{customdata[2]:"),
        )
    plain = {"ticks": "", "showgrid": False, "zeroline": False, "fixedrange": True}
    # Left to itself, an axis leaves room for half a marker beside the cells.
    figure.update_xaxes(tickvals=x, ticktext=expert_names(columns), range=[-0.5, columns - 0.5], **plain)
    figure.update_xaxes(title={"text": "expert", "standoff": 4}, side="top", automargin=False)
    figure.update_yaxes(tickvals=y, ticktext=rows, range=[count - 0.5, -0.5], **plain)
    figure.update_yaxes(ticksuffix="  ", automargin=True)
    return layout(figure, TOP + row * count + COLORBAR, TOP, COLORBAR, hovermode="closest")
