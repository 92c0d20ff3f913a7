"""Class probabilities as bars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from condconv_mlx.charts.style import ACCENT, ACCENT_SOFT, layout, plain

ROW = 30


def class_bars(labels: Sequence[str], probabilities: np.ndarray, top: int = 10) -> go.Figure:
    """The `top` most probable of the classes, the first one accented.

    Args:
        labels: a name for each class.
        probabilities: (classes,) in [0, 1].
        top: bars to draw at most.
    """
    if probabilities.shape != (len(labels),):
        raise ValueError(f"probabilities must be ({len(labels)},), one a label, got shape {probabilities.shape}")
    order = np.argsort(-probabilities, kind="stable")[:top]
    figure = go.Figure()
    colors = [ACCENT, *[ACCENT_SOFT] * (len(order) - 1)]
    add_class_bars(figure, labels, order, probabilities, colors, "%{y}<br>%{x:.2%}<extra></extra>")
    return layout(figure, ROW * len(order), bargap=0.35)


def likeliest_of_two(labels: Sequence[str], first: np.ndarray, second: np.ndarray, top: int) -> np.ndarray:
    """Indices of the classes that are high in either of two, (classes,) each, at most `top`.

    In the order of the first, so that bars do not jump about while the second changes. `ValueError` for other shapes.
    """
    if first.shape != (len(labels),) or second.shape != first.shape:
        raise ValueError(f"need two of shape ({len(labels)},), one a label, got {first.shape} and {second.shape}")
    order = np.argsort(-np.maximum(first, second), kind="stable")[:top]
    return order[np.argsort(-first[order], kind="stable")]


def add_class_bars(
    figure: go.Figure,
    labels: Sequence[str],
    order: np.ndarray,
    probabilities: np.ndarray,
    color: str | Sequence[str],
    hover: str,
    **options: Any,
) -> None:
    """A bar to the right for each class of `order`, with its probability beside it.

    Args:
        figure: that they are drawn into.
        labels: a name for each class.
        order: indices of the classes, from above.
        probabilities: (classes,) in [0, 1].
        color: of all bars, or of each.
        hover: the template.
        options: of the Plotly trace.
    """
    values = probabilities[order]
    figure.add_bar(
        x=values,
        y=[plain(labels[i]) for i in order],
        orientation="h",
        text=[percent(value) for value in values],
        textposition="outside",
        cliponaxis=False,
        marker={"color": color, "cornerradius": 3},
        hovertemplate=hover,
        **options,
    )
    # Room on the right for the number beside a full bar.
    figure.update_xaxes(range=[0, 1.2], visible=False, fixedrange=True)
    figure.update_yaxes(autorange="reversed", fixedrange=True, tickfont={"size": 13}, ticksuffix="  ", showgrid=False)


def percent(value: float) -> str:
    """A probability that never rounds to a certainty it is not: "99.9 %", "< 0.1 %"."""
    if value < 0.0005:
        return "< 0.1 %"
    return f"{min(value, 0.999) if value < 1 else 1:.1%}".replace("%", " %")
