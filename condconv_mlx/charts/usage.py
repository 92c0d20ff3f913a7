"""How routers use their experts over many images: by class, by depth, and image by image."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from condconv_mlx.charts.routing import expert_heatmap
from condconv_mlx.charts.style import COLORBAR, SEQUENTIAL, colorbar, expert_color, expert_names, layout, plain

# Of lines that are not experts: blue, orange and so on of Okabe and Ito, each with a mark of its own besides.
LINES = "#0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00 #8C8C8C #B8A800 #AA3377 #8080FF".split()
MARKS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down", "hexagon", "bowtie"]
PANEL = 120
GAP = 40
CELL = 24
LEGEND = 70


def class_depth(routers: Sequence[str], means: Sequence[np.ndarray], classes: Sequence[str]) -> go.Figure:
    """The mean routing weights of some classes at several depths: the figure of the paper's section 5.

    A panel for each router, from the first on, and in each a line for each class over the experts.

    Args:
        routers: names, in order of execution.
        means: for each router (C, E), the mean weight in each class.
        classes: names of the C classes.
    """
    if len(routers) != len(means) or any(len(table) != len(classes) for table in means):
        shapes = [table.shape for table in means]
        raise ValueError(f"need ({len(classes)}, E) for each of {len(routers)} routers, got the shapes {shapes}")
    figure = _panels(routers)
    for i, table in enumerate(means):
        for c, row in enumerate(table):
            figure.add_scatter(
                x=np.arange(len(row)),
                y=row,
                mode="lines+markers",
                name=plain(classes[c]),
                legendgroup=str(c),
                showlegend=i == 0,
                line={"color": LINES[c % len(LINES)], "width": 1.5},
                marker={"symbol": MARKS[c % len(MARKS)], "size": 8},
                customdata=[f"{expert + 1}" for expert in range(len(row))],
                hovertemplate="expert %{customdata}<br>mean weight %{y:.3f}<extra>" + plain(classes[c]) + "</extra>",
                row=i + 1,
                col=1,
            )
        # Only under the last one, unless the numbers of experts differ.
        last = i == len(means) - 1 or len(means[i + 1][0]) != len(row)
        figure.update_xaxes(
            tickvals=np.arange(len(row)),
            ticktext=expert_names(len(row)),
            showticklabels=last,
            range=[-0.4, len(row) - 0.6],
            row=i + 1,
            col=1,
        )
    figure.update_yaxes(range=[-0.04, 1.04], tickvals=[0, 0.5, 1], fixedrange=True, zeroline=False)
    figure.update_yaxes(title={"text": "mean weight", "standoff": 10}, row=1, col=1)
    figure.update_xaxes(title={"text": "expert", "standoff": 6}, row=len(routers), col=1)
    return _stacked(figure, len(routers))


def weight_histograms(
    routers: Sequence[str], counts: Sequence[np.ndarray], edges: np.ndarray, notes: Sequence[str] | None = None
) -> go.Figure:
    """How often each routing weight occurs: a panel for each router, its experts stacked in their colours.

    Args:
        routers: names, in order of execution.
        counts: for each router (E, B), images in each bin.
        edges: of the bins, (B + 1,).
        notes: for each router what stands beside its name.
    """
    if len(routers) != len(counts) or any(table.shape[1] != len(edges) - 1 for table in counts):
        shapes = [table.shape for table in counts]
        raise ValueError(f"need (E, {len(edges) - 1}) for each of {len(routers)} routers, got the shapes {shapes}")
    titles = [f"{name} · {note}" if note else name for name, note in zip(routers, notes or routers, strict=True)]
    figure = _panels(titles if notes else routers)
    middles, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    ranges = [f"{low:.2f} to {high:.2f}" for low, high in zip(edges, edges[1:], strict=False)]
    for i, table in enumerate(counts):
        for expert, row in enumerate(table):
            figure.add_bar(
                x=middles,
                y=row,
                width=width * 0.96,
                name=f"expert {expert + 1}",
                marker={"color": expert_color(expert), "line": {"width": 0}},
                customdata=ranges,
                hovertemplate="weight %{customdata}<br>%{y} images<extra>expert " + f"{expert + 1}</extra>",
                showlegend=False,
                row=i + 1,
                col=1,
            )
        figure.update_xaxes(showticklabels=i == len(counts) - 1, row=i + 1, col=1)
    figure.update_xaxes(range=[-0.01, 1.01], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_xaxes(title={"text": "routing weight", "standoff": 6}, row=len(routers), col=1)
    figure.update_yaxes(nticks=3, fixedrange=True, rangemode="tozero")
    figure.update_yaxes(title={"text": "images", "standoff": 10}, row=1, col=1)
    figure.update_layout(barmode="stack")
    return _stacked(figure, len(routers))


def usage_by_depth(routers: Sequence[str], lines: Mapping[str, Sequence[float]]) -> go.Figure:
    """Several shares in [0, 1] over the routers, from the first on: entropy, saturation and the like.

    Args:
        routers: names, in order of execution.
        lines: by name, a number for each router.
    """
    figure = go.Figure()
    for i, (name, values) in enumerate(lines.items()):
        if len(values) != len(routers):
            raise ValueError(f"need a number of {name!r} for each of {len(routers)} routers, got {len(values)}")
        figure.add_scatter(
            x=np.arange(len(routers)),
            y=list(values),
            mode="lines+markers",
            name=plain(name),
            line={"color": LINES[i % len(LINES)], "dash": ["solid", "dash", "dot", "dashdot"][i % 4]},
            marker={"symbol": MARKS[i % len(MARKS)], "size": 9},
            customdata=[plain(router) for router in routers],
            hovertemplate="%{y:.1%}<br>%{customdata}<extra>" + plain(name) + "</extra>",
        )
    figure.update_xaxes(tickvals=np.arange(len(routers)), ticktext=[plain(name) for name in routers], fixedrange=True)
    figure.update_xaxes(title={"text": "router, in order of depth", "standoff": 6}, automargin=True)
    # Room for the names at both ends, which Plotly leaves out where they do not fit.
    figure.update_xaxes(showgrid=False, zeroline=False, range=[-0.4, len(routers) - 0.6])
    figure.update_yaxes(
        range=[-0.04, 1.04], tickformat=".0%", fixedrange=True, zeroline=False, nticks=5, automargin=True
    )
    layout(figure, 320, 10, 110, hovermode="closest")
    return legend(figure)


def class_experts(classes: Sequence[str], means: np.ndarray) -> go.Figure:
    """The mean weight of each expert of one router in each class: classes × experts.

    Args:
        classes: names, in the order in which they are drawn.
        means: (C, E) in [0, 1].
    """
    if means.ndim != 2 or len(means) != len(classes):
        raise ValueError(f"means must be ({len(classes)}, E), a row for each class, got shape {means.shape}")
    cells = [[(expert + 1,) for expert in range(means.shape[1])]] * len(classes)
    hover = "expert %{customdata[0]}<br>mean weight %{z:.3f}<extra>%{y}</extra>"
    return expert_heatmap(means, [plain(name) for name in classes], cells, hover, row=CELL, quantity="mean weight")


def clustered_images(names: Sequence[str], routers: Sequence[str], weights: Sequence[np.ndarray]) -> go.Figure:
    """All images × all experts of all routers, in the order given.

    Args:
        names: of the images, in the hover, and beside the rows where there is room.
        routers: names, in order of execution.
        weights: for each router (N, E).
    """
    if len(routers) != len(weights) or any(len(table) != len(names) for table in weights):
        shapes = [table.shape for table in weights]
        raise ValueError(f"need ({len(names)}, E) for each of {len(routers)} routers, got the shapes {shapes}")
    sizes = [table.shape[1] for table in weights]
    ends = np.cumsum(sizes)
    row = max(2, min(24, 640 // len(names)))
    # Each router is a trace of its own, which its hover can name; a text for each cell would weigh more than the cells.
    figure = go.Figure()
    for i, (router, table, end) in enumerate(zip(routers, weights, ends, strict=True)):
        figure.add_heatmap(
            z=table,
            x=np.arange(end - table.shape[1], end),
            y=np.arange(len(names)),
            text=[[f"{expert + 1}" for expert in range(table.shape[1])]] * len(names),
            hovertemplate=f"%{{y}}<br>weight %{{z:.3f}}<extra>{plain(router)}, expert %{{text}}</extra>",
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            xgap=1 if ends[-1] <= 40 else 0,
            ygap=1 if row >= 12 else 0,
            showscale=i == 0,
            colorbar=colorbar("routing weight", tickvals=[0, 0.5, 1]),
        )
    for end in ends[:-1]:
        figure.add_vline(x=end - 0.5, line={"color": "rgba(134, 142, 150, 0.9)", "width": 1.5})
    bare = {"ticks": "", "showgrid": False, "zeroline": False, "fixedrange": True, "automargin": True}
    figure.update_xaxes(tickvals=ends - (np.array(sizes) + 1) / 2, ticktext=[plain(name) for name in routers], **bare)
    figure.update_xaxes(
        range=[-0.5, ends[-1] - 0.5], side="top", title={"text": "experts of each router", "standoff": 4}
    )
    # Names for the hover, also where they are not drawn.
    figure.update_yaxes(tickvals=np.arange(len(names)), ticktext=[plain(name) for name in names], **bare)
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], showticklabels=row >= 14, ticksuffix="  ")
    return layout(figure, 66 + row * len(names) + COLORBAR, 66, COLORBAR, hovermode="closest")


def _panels(titles: Sequence[str]) -> go.Figure:
    """Panels below each other, each with its title over its left end."""
    count = len(titles)
    height = count * PANEL + (count - 1) * GAP
    spacing = GAP / height if count > 1 else 0
    figure = make_subplots(count, 1, subplot_titles=[plain(name) for name in titles], vertical_spacing=spacing)
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    figure.update_xaxes(fixedrange=True, showgrid=False, zeroline=False)
    figure.update_yaxes(automargin=True)
    return figure


def _stacked(figure: go.Figure, count: int) -> go.Figure:
    layout(figure, count * PANEL + (count - 1) * GAP + 28 + LEGEND + 40, 28, LEGEND + 40, hovermode="closest")
    return legend(figure)


def legend(figure: go.Figure) -> go.Figure:
    """Under the chart, where it takes no width from it."""
    place = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left"}
    figure.update_layout(showlegend=any(trace.showlegend is not False for trace in figure.data), legend=place)
    return figure
