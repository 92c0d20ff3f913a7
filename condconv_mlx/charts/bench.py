"""Measurements: relative times as dots, costs by number of experts as lines, amounts as bars.

These stand on a page of their own, so they bring a grid that light and dark backgrounds show, and a legend.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from condconv_mlx.charts.style import ACCENT, GREY, layout, plain

GRID = "rgba(134, 142, 150, 0.25)"
ROW = 34
BAR = 38
LEGEND = 36
LINE = 22
AXIS = 52


def relative_times(
    rows: Sequence[tuple[str, str]],
    times: Mapping[str, Sequence[float]],
    reference: str,
    limit: float,
    emphasised: str,
) -> go.Figure:
    """Times divided by those of a reference, a row of dots for each case.

    Args:
        rows: for each case its name and a second line for it.
        times: milliseconds of each case by the name of what was measured.
        reference: the one to divide by, which is drawn as a line at 1.
        limit: a ratio at which a thin line is drawn, too.
        emphasised: the one in the accent colour. At most two others have a symbol.
    """
    if any(len(values) != len(rows) for values in times.values()):
        raise ValueError(f"got {len(rows)} rows, and {[len(values) for values in times.values()]} times")
    symbols = iter(["diamond-open", "circle-open"])
    figure = go.Figure()
    y = list(range(len(rows)))
    ratios = [1.0, limit]
    for name, values in times.items():
        if name == reference:
            continue
        relative = [value / other for value, other in zip(values, times[reference], strict=True)]
        ratios += relative
        accented = name == emphasised
        marker = {"color": ACCENT, "size": 12} if accented else {"color": GREY, "size": 9, "symbol": next(symbols)}
        figure.add_scatter(
            x=relative,
            y=y,
            name=plain(name),
            mode="markers",
            marker=marker,
            zorder=int(accented),
            customdata=[
                (plain(f"{first}, {second}"), value, other)
                for (first, second), value, other in zip(rows, values, times[reference], strict=True)
            ],
            hovertemplate=f"<b>{plain(name)}</b><br>%{{customdata[0]}}<br>%{{customdata[1]:.3~g}} ms, %{{x:.2f}} times "
            f"the %{{customdata[2]:.3~g}} ms of {plain(reference)}<extra></extra>",
        )
    figure.add_vline(1, line={"color": GREY, "width": 1.5})
    figure.add_vline(limit, line={"color": GREY, "width": 1, "dash": "dot"})
    low, high = min(ratios) / 1.2, max(ratios) * 1.2
    ticks = [tick for tick in _marks(ratios) if low < tick < high]
    figure.update_xaxes(
        title={"text": f"time / {plain(reference)} (times)", "standoff": 8},
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[f"{tick:g}" for tick in ticks],
        gridcolor=GRID,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_yaxes(
        tickvals=y,
        ticktext=[f"{plain(first)}<br><span style='font-size:10px'>{plain(second)}</span>" for first, second in rows],
        range=[len(rows) - 0.5, -0.5],
        ticklabelstandoff=8,
        showgrid=False,
        zeroline=False,
        automargin=True,
        fixedrange=True,
    )
    return _with_legend(layout(figure, LEGEND + ROW * len(rows) + AXIS, LEGEND, AXIS, hovermode="closest"))


def expert_costs(
    counts: Sequence[int],
    costs: Mapping[str, Sequence[float]],
    emphasised: str,
    unit: str = "milliseconds",
    ticks: Sequence[int] | None = None,
) -> go.Figure:
    """Costs against the number of experts, a line for each of `costs`; both axes are logarithmic.

    Args:
        counts: of experts.
        costs: for each count, by the name of what was measured. At most three beside the emphasised one.
        emphasised: the one in the accent colour.
        unit: of the costs.
        ticks: the counts that there will be, for an axis that stays while they come; those of `counts` by default.
    """
    dashes = iter(["dash", "dot", "dashdot"])
    figure = go.Figure()
    for name, values in costs.items():
        accented = name == emphasised
        figure.add_scatter(
            x=list(counts),
            y=list(values),
            name=plain(name),
            mode="lines+markers",
            line={"color": ACCENT if accented else GREY, "width": 3 if accented else 2}
            | ({} if accented else {"dash": next(dashes)}),
            marker={"size": 8 if accented else 6},
            zorder=int(accented),
            hovertemplate=f"{plain(name)}<br>%{{x}} experts: %{{y:.3~g}} {plain(unit)}<extra></extra>",
        )
    ticks = list(ticks or counts)
    axis = {"type": "log", "gridcolor": GRID, "zeroline": False, "fixedrange": True}
    ends = [math.log10(ticks[0]) - 0.07, math.log10(ticks[-1]) + 0.07]
    figure.update_xaxes(title={"text": "experts", "standoff": 8}, tickvals=ticks, range=ends, **axis)
    marks = _marks([value for values in costs.values() for value in values])
    figure.update_yaxes(
        title={"text": plain(unit), "standoff": 8},
        tickvals=marks,
        ticktext=[f"{mark:,g}" for mark in marks],
        automargin=True,
        **axis,
    )
    # A line each, so that long names have room on a narrow screen.
    legend = LINE * len(costs)
    figure = _with_legend(layout(figure, 330 + legend, legend, AXIS, hovermode="closest"))
    return figure.update_layout(legend={"orientation": "v"})


def amounts(
    bars: Sequence[tuple[str, str, float]], title: str, emphasised: str, limit: tuple[str, float] | None = None
) -> go.Figure:
    """Bars to the right, from zero.

    Args:
        bars: for each its group, its name within the group, and its length.
        title: of the axis, with the unit.
        emphasised: the name of bars in the accent colour.
        limit: a name and a length at which a dotted line is drawn.
    """
    figure = go.Figure(
        go.Bar(
            x=[value for *_, value in bars],
            y=list(range(len(bars))),
            orientation="h",
            text=[f"{value:,.0f}" for *_, value in bars],
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": [ACCENT if name == emphasised else "rgba(134, 142, 150, 0.45)" for _, name, _ in bars],
                "cornerradius": 3,
                "line": {"width": 0},
            },
            customdata=[plain(", ".join(filter(None, (name, group)))) for group, name, _ in bars],
            hovertemplate=f"%{{customdata}}<br>%{{x:,.0f}} {plain(title)}<extra></extra>",
        )
    )
    if limit:
        name, value = limit
        figure.add_vline(
            value,
            line={"color": GREY, "width": 1.5, "dash": "dot"},
            annotation={"text": f"{plain(name)} {value:,.0f}", "font": {"size": 12}},
            annotation_position="top left",
        )
    longest = max([value for *_, value in bars] + ([limit[1]] if limit else []))
    # Room on the right for the number beside the longest bar.
    figure.update_xaxes(
        title={"text": plain(title), "standoff": 8},
        range=[0, 1.12 * longest],
        nticks=6,
        gridcolor=GRID,
        zeroline=False,
        fixedrange=True,
    )
    small = "<br><span style='font-size:10px'>{}</span>"
    figure.update_yaxes(
        tickvals=list(range(len(bars))),
        ticktext=[plain(name) + (small.format(plain(group)) if group else "") for group, name, _ in bars],
        range=[len(bars) - 0.5, -0.5],
        ticklabelstandoff=8,
        showgrid=False,
        automargin=True,
        fixedrange=True,
    )
    top = LEGEND if limit else 8
    return layout(figure, top + BAR * len(bars) + AXIS, top, AXIS, bargap=0.3, hovermode="closest")


def _marks(values: Sequence[float]) -> list[float]:
    """1, 2, 5 and 10 times what they are on a logarithmic axis, from below the least to above the greatest value."""
    decades = range(math.floor(math.log10(min(values))), math.floor(math.log10(max(values))) + 1)
    return [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)] + [10.0 ** (decades[-1] + 1)]


def _with_legend(figure: go.Figure) -> go.Figure:
    legend: dict[str, Any] = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
    return figure.update_layout(showlegend=True, legend=legend | {"itemclick": False, "itemdoubleclick": False})
