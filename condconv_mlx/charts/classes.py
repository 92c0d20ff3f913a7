"""Class probabilities as bars."""

from collections.abc import Sequence

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
    values = probabilities[order]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=[plain(labels[i]) for i in order],
            orientation="h",
            text=[percent(value) for value in values],
            textposition="outside",
            cliponaxis=False,
            marker={"color": [ACCENT, *[ACCENT_SOFT] * (len(order) - 1)], "cornerradius": 3},
            hovertemplate="%{y}<br>%{x:.2%}<extra></extra>",
        )
    )
    # Room on the right for the number beside a full bar.
    figure.update_xaxes(range=[0, 1.2], visible=False, fixedrange=True)
    figure.update_yaxes(autorange="reversed", fixedrange=True, tickfont={"size": 13}, ticksuffix="  ", showgrid=False)
    return layout(figure, ROW * len(order), bargap=0.35)


def percent(value: float) -> str:
    """A probability that never rounds to a certainty it is not: "99.9 %", "< 0.1 %"."""
    if value < 0.0005:
        return "< 0.1 %"
    return f"{min(value, 0.999) if value < 1 else 1:.1%}".replace("%", " %")
