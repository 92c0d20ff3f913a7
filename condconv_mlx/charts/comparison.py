"""Two models, or two images, beside each other: the first is blue and the second orange in all charts."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from condconv_mlx.charts.classes import add_class_bars, likeliest_of_two
from condconv_mlx.charts.style import ACCENT, GREY, layout, plain
from condconv_mlx.charts.usage import LINES, MARKS, legend

PAIR = (ACCENT, "#E8590C")
# Of a chart with its axis below, and of the legend under that.
AXIS = 50
LEGEND = 40
ROW = 42
SQUARE = 380


def class_pairs(
    labels: Sequence[str], names: tuple[str, str], first: np.ndarray, second: np.ndarray, top: int = 8
) -> go.Figure:
    """The probabilities of the likeliest classes, each by both.

    Args:
        labels: a name for each class.
        names: of the two.
        first, second: (classes,) in [0, 1].
        top: classes to draw at most; those that are high in either.
    """
    order = likeliest_of_two(labels, first, second, top)
    figure = go.Figure()
    for name, values, color in zip(names, (first, second), PAIR, strict=True):
        hover = "%{y}: %{x:.2%}<extra>" + plain(name) + "</extra>"
        add_class_bars(figure, labels, order, values, color, hover, name=plain(name))
    figure.update_yaxes(automargin=True)
    return legend(layout(figure, ROW * len(order) + LEGEND, 0, LEGEND, bargap=0.25, bargroupgap=0.08))


def answer_map(
    names: tuple[str, str],
    images: Sequence[str],
    classes: Sequence[str],
    first: np.ndarray,
    second: np.ndarray,
    kinds: Sequence[str],
    notes: Sequence[str],
    chosen: int | None = None,
) -> go.Figure:
    """Images by the probability that two models give to the same class; on the dotted line they agree.

    A point's `customdata` starts with the index of the image.

    Args:
        names: of the models.
        images: names of the N images.
        classes: for each the class that it is about.
        first, second: its probability by each model, (N,) in [0, 1].
        kinds: for each a word for how the models fare; each kind has a colour and a mark.
        notes: for each what the hover says besides.
        chosen: index of an image to draw a ring around.
    """
    if not len(images) == len(classes) == len(kinds) == len(notes) == len(first) == len(second):
        raise ValueError(f"need as many classes, probabilities, kinds and notes as images, which are {len(images)}")
    figure = go.Figure()
    for i, kind in enumerate(sorted(set(kinds))):
        members = [n for n, one in enumerate(kinds) if one == kind]
        figure.add_scatter(
            x=first[members],
            y=second[members],
            mode="markers",
            name=plain(kind),
            marker={"color": LINES[i], "symbol": MARKS[i], "size": 11, "opacity": 0.85},
            # A click chooses, and is to leave the others as they are.
            unselected={"marker": {"opacity": 0.85}},
            customdata=[(n, plain(images[n]), plain(classes[n]), plain(notes[n])) for n in members],
            hovertemplate="%{customdata[1]}<br>%{customdata[2]}: %{x:.1%} against %{y:.1%}<br>%{customdata[3]}"
            "<extra></extra>",
        )
    if chosen is not None:
        figure.add_scatter(
            x=first[chosen : chosen + 1],
            y=second[chosen : chosen + 1],
            mode="markers",
            marker={"symbol": "circle-open", "size": 24, "color": GREY, "line": {"width": 3}},
            hoverinfo="skip",
            showlegend=False,
        )
    line = {"color": GREY, "width": 1, "dash": "dot"}
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line=line, layer="below")
    axis = {"range": [-0.04, 1.04], "tickvals": [0, 0.5, 1], "tickformat": ".0%", "fixedrange": True, "zeroline": False}
    figure.update_xaxes(title={"text": f"by {plain(names[0])}", "standoff": 6}, **axis)
    figure.update_yaxes(title={"text": f"by {plain(names[1])}", "standoff": 6}, automargin=True, **axis)
    return legend(layout(figure, SQUARE + LEGEND, 10, AXIS + LEGEND, hovermode="closest"))


def distance_by_depth(routers: Sequence[str], distances: Sequence[float], usual: Sequence[float] | None) -> go.Figure:
    """By how much the routing of two images differs in each router, beside what it usually does.

    Args:
        routers: names, in order of execution.
        distances: for each router the mean difference of the weights, in [0, 1].
        usual: the same for the average pair, drawn as lines; None for bars alone.
    """
    if len(distances) != len(routers) or (usual is not None and len(usual) != len(routers)):
        raise ValueError(f"need a number for each of {len(routers)} routers, got {len(distances)}")
    x = list(range(len(routers)))
    notes = ["" if usual is None else f", usually {value:.3f}" for value in usual or distances]
    figure = go.Figure(
        go.Bar(
            x=x,
            y=list(distances),
            width=0.6,
            marker={"color": ACCENT, "cornerradius": 3},
            customdata=[(plain(name), note) for name, note in zip(routers, notes, strict=True)],
            hovertemplate="%{customdata[0]}<br>mean difference %{y:.3f}%{customdata[1]}<extra></extra>",
        )
    )
    for i, value in enumerate(usual or []):
        ends = {"x0": i - 0.42, "x1": i + 0.42, "y0": value, "y1": value}
        figure.add_shape(type="line", **ends, line={"color": GREY, "width": 2, "dash": "dot"})
    most = max([*distances, *(usual or []), 0.05])
    figure.update_xaxes(tickvals=x, ticktext=[plain(name) for name in routers], fixedrange=True, showgrid=False)
    figure.update_xaxes(title={"text": "router, in order of depth", "standoff": 6}, automargin=True)
    figure.update_yaxes(title={"text": "mean difference", "standoff": 10}, range=[0, 1.08 * most], nticks=4)
    figure.update_yaxes(fixedrange=True, zeroline=False, automargin=True)
    return layout(figure, SQUARE, 10, AXIS)


def cost_bars(names: Sequence[str], parts: Mapping[str, Sequence[float]], quantity: str) -> go.Figure:
    """What each of some models costs, a bar each, of parts one after the other.

    Args:
        names: of the models.
        parts: by the name of a part, how much of it each model has.
        quantity: what is counted.
    """
    totals = [sum(values) for values in zip(*parts.values(), strict=True)]
    if len(totals) != len(names):
        raise ValueError(f"need a number of each part for {len(names)} models, got {len(totals)}")
    scale, unit = _unit(max(totals))
    figure = go.Figure()
    rows = list(range(len(names)))
    for i, (part, values) in enumerate(parts.items()):
        figure.add_bar(
            x=[value / scale for value in values],
            y=rows,
            width=0.6,
            name=plain(part),
            orientation="h",
            marker={"color": LINES[i % len(LINES)], "line": {"width": 0}},
            customdata=[
                (plain(name), f"{value:,.0f}", f"{value / total if total else 0:.1%}")
                for name, value, total in zip(names, values, totals, strict=True)
            ],
            hovertemplate=f"%{{customdata[1]}} {quantity}, %{{customdata[2]}}<br>%{{customdata[0]}}"
            f"<extra>{plain(part)}</extra>",
            # None of the models has it.
            showlegend=any(values),
        )
    for row, total in zip(rows, totals, strict=True):
        figure.add_annotation(
            x=total / scale,
            y=row,
            text=f"{total / scale:.3g}",
            xanchor="left",
            xshift=4,
            showarrow=False,
            font={"size": 13},
        )
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    figure.update_xaxes(title={"text": f"{unit}{quantity}", "standoff": 6}, range=[0, 1.15 * max(totals) / scale])
    figure.update_xaxes(fixedrange=True, zeroline=False, nticks=5)
    return legend(_rows(figure, names, LEGEND + 20))


def times(names: Sequence[str], taken: Sequence[Sequence[float]]) -> go.Figure:
    """What repeated runs of each of some models took, as boxes over all times.

    The axis ends a little beyond the 95th percentile: a few passes that waited for another program would hide the rest.

    Args:
        names: of the models.
        taken: for each its times in milliseconds.
    """
    if len(taken) != len(names) or not all(len(values) for values in taken):
        raise ValueError(f"need times of each of {len(names)} models, got {[len(values) for values in taken]}")
    figure = go.Figure()
    for i, (name, values) in enumerate(zip(names, taken, strict=True)):
        figure.add_box(
            x=list(values),
            y=[i] * len(values),
            orientation="h",
            width=0.5,
            name=plain(name),
            boxpoints="all",
            jitter=0.6,
            pointpos=0,
            marker={"color": PAIR[i % 2], "size": 4, "opacity": 0.6},
            line={"width": 1.5},
            hovertemplate="%{x:.2f} ms<extra>" + plain(name) + "</extra>",
        )
    end = 1.2 * max(float(np.percentile(values, 95)) for values in taken)
    figure.update_xaxes(title={"text": "milliseconds", "standoff": 6}, range=[0, end], fixedrange=True, nticks=6)
    figure.update_xaxes(zeroline=False)
    return _rows(figure, names, 0)


def _rows(figure: go.Figure, names: Sequence[str], below: int) -> go.Figure:
    """A row for each name, from the top."""
    # What a name is made of stands below each other, so that a long one leaves room on a narrow screen.
    labels = [plain(name).replace(" · ", "<br>") for name in names]
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=labels, ticksuffix="  ")
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], fixedrange=True, showgrid=False, zeroline=False)
    figure.update_yaxes(tickfont={"size": 13}, automargin=True)
    return layout(figure, 60 * len(names) + 10 + AXIS + below, 10, AXIS + below, hovermode="closest")


def _unit(most: float) -> tuple[float, str]:
    """What to divide large numbers by, and its name before what is counted."""
    for scale, word in ((10**9, "billion "), (10**6, "million "), (10**3, "thousand ")):
        if most >= scale:
            return scale, word
    return 1, ""
