"""What other routing would have done: experts silenced one by one, and a prediction before and after."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from condconv_mlx.charts.classes import add_class_bars, likeliest_of_two, percent
from condconv_mlx.charts.style import ACCENT, ACCENT_SOFT, COLORBAR, DIVERGING, colorbar, expert_names, layout, plain

GREY = "rgba(134, 142, 150, 0.75)"
# From this share of the scale on, letters are white, with this under them: legible on a light and on a dark page.
STRONG = 0.2
SHADOW = "0 0 2px #333, 0 0 3px #333"
FRAME = "#868E96"
ORANGE = "#F08020"
ROW = 40
# Wider tables have no room for numbers in their cells.
NUMBERED = 12
TOP = 66


def silencing_chart(
    routers: Sequence[str],
    without: Sequence[np.ndarray],
    probabilities: np.ndarray,
    labels: Sequence[str],
    silenced: Sequence[tuple[int, int]] = (),
) -> go.Figure:
    """What silencing each expert does to the likeliest class, in percentage points: routers × experts.

    A point to click lies over each cell; its `customdata` starts with the index of the router and of the expert.

    Args:
        routers: their names, in order of execution.
        without: for each router (E, classes): the probabilities with each of its experts silenced; E may differ.
        probabilities: with none silenced, (classes,).
        labels: a name for each class.
        silenced: (router, expert) of those that are silenced already; they are framed.
    """
    if len(routers) != len(without):
        raise ValueError(f"got {len(routers)} routers and the probabilities of {len(without)}")
    label = int(probabilities.argmax())
    columns = max((len(rows) for rows in without), default=0)
    change = np.full((len(without), columns), np.nan)
    points = []
    for i, rows in enumerate(without):
        change[i, : len(rows)] = 100 * (rows[:, label] - probabilities[label])
        for expert, row in enumerate(rows):
            winner = int(row.argmax())
            then = "still the likeliest" if winner == label else f"now likelier: {plain(labels[winner])}"
            points.append((i, expert, percent(row[label]), f"{change[i, expert]:+.1f}", then, f"{expert + 1}"))
    limit = max(1.0, float(np.nanmax(np.abs(change), initial=0)))
    ends = [f"{-limit:+.0f}", "0", f"{limit:+.0f}"]
    figure = go.Figure(
        go.Heatmap(
            z=change,
            x=np.arange(columns),
            y=np.arange(len(routers)),
            zmin=-limit,
            zmax=limit,
            colorscale=DIVERGING,
            xgap=2,
            ygap=2,
            hoverongaps=False,
            hoverinfo="skip",
            colorbar=colorbar("percentage points", tickvals=[-limit, 0, limit], ticktext=ends),
        )
    )
    name, before = plain(labels[label]), percent(probabilities[label])
    # Not the heatmap's own text, which would be black on a black page where a cell is nearly transparent.
    numbered = columns <= NUMBERED
    values = [float(change[i, expert]) for i, expert, *_ in points]
    strong = [abs(value) >= STRONG * limit for value in values]
    figure.add_scatter(
        x=[expert for _, expert, *_ in points],
        y=[i for i, *_ in points],
        mode="markers+text" if numbered else "markers",
        text=[_signed(value) for value in values] if numbered else None,
        textfont={
            "size": 12,
            "color": ["white" if one else FRAME for one in strong],
            "shadow": [SHADOW if one else "none" for one in strong],
        },
        marker={"symbol": "square", "size": ROW - 8, "opacity": 0.01},
        customdata=points,
        hovertemplate=(
            f"Without this expert, {name}: {before} → %{{customdata[2]}}<br>"
            "%{customdata[3]} percentage points, %{customdata[4]}"
            "<extra>expert %{customdata[5]}</extra>"
        ),
    )
    for router, expert in silenced:
        corners = {"x0": expert - 0.46, "x1": expert + 0.46, "y0": router - 0.44, "y1": router + 0.44}
        figure.add_shape(type="rect", **corners, line={"color": FRAME, "width": 3})
    cells = {"ticks": "", "showgrid": False, "zeroline": False, "fixedrange": True}
    figure.update_xaxes(
        tickvals=np.arange(columns), ticktext=expert_names(columns), range=[-0.5, columns - 0.5], **cells
    )
    figure.update_xaxes(title={"text": "expert that is silenced", "standoff": 4}, side="top", automargin=False)
    figure.update_yaxes(tickvals=np.arange(len(routers)), ticktext=[plain(name) for name in routers], **cells)
    figure.update_yaxes(range=[len(routers) - 0.5, -0.5], ticksuffix="  ", automargin=True)
    return layout(figure, TOP + ROW * len(routers) + COLORBAR, TOP, COLORBAR, hovermode="closest")


def before_after(labels: Sequence[str], before: np.ndarray, after: np.ndarray, top: int = 6) -> go.Figure:
    """The probabilities of the likeliest classes as they were (grey) and as they are with another routing.

    Args:
        labels: a name for each class.
        before, after: (classes,) in [0, 1].
        top: classes to draw at most; those that are high in either.
    """
    order = likeliest_of_two(labels, before, after, top)
    figure = go.Figure()
    winner = int(after.argmax())
    colors = [ACCENT if i == winner else ACCENT_SOFT for i in order]
    for name, values, color in (("after", after, colors), ("before", before, GREY)):
        hover = "%{y}, " + name + ": %{x:.2%}<br>change: %{customdata:+.1f} percentage points<extra></extra>"
        change = 100 * (after - before)[order]
        add_class_bars(figure, labels, order, values, color, hover, name=name, customdata=change)
    figure.update_yaxes(automargin=True)
    return layout(figure, 44 * len(order), bargap=0.25, bargroupgap=0.08)


def alternatives(names: Sequence[str], probabilities: np.ndarray, labels: Sequence[str]) -> go.Figure:
    """One image under several routings: what each leaves of the class that the first one gives.

    Args:
        names: of the routings; the first is the network's own.
        probabilities: (V, classes).
        labels: a name for each class.
    """
    if probabilities.shape != (len(names), len(labels)):
        raise ValueError(f"probabilities must be ({len(names)}, {len(labels)}), got shape {probabilities.shape}")
    label = int(probabilities[0].argmax())
    winners = probabilities.argmax(axis=1)
    values = probabilities[:, label]
    texts = [
        percent(value) if winner == label else f"{percent(value)} · {plain(labels[winner])} wins"
        for value, winner in zip(values, winners, strict=True)
    ]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=np.arange(len(names)),
            orientation="h",
            text=texts,
            textposition="outside",
            cliponaxis=False,
            marker={"color": [ACCENT if winner == label else ORANGE for winner in winners], "cornerradius": 3},
            customdata=[(plain(name), plain(labels[winner])) for name, winner in zip(names, winners, strict=True)],
            hovertemplate=(
                "%{customdata[0]}<br>"
                + plain(labels[label])
                + ": %{x:.2%}<br>likeliest: %{customdata[1]}<extra></extra>"
            ),
        )
    )
    figure.update_xaxes(range=[0, 1.6], visible=False, fixedrange=True)
    figure.update_yaxes(tickvals=np.arange(len(names)), ticktext=[plain(name) for name in names], ticksuffix="  ")
    figure.update_yaxes(
        range=[len(names) - 0.5, -0.5], fixedrange=True, tickfont={"size": 13}, showgrid=False, automargin=True
    )
    return layout(figure, 32 * len(names), bargap=0.35)


def _signed(points: float) -> str:
    """A whole number with its sign; 0 has none."""
    return f"{round(points):+d}" if round(points) else "0"
