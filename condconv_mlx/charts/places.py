"""Images on a plane, to be chosen with a lasso."""

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from condconv_mlx.charts.style import SEQUENTIAL, colorbar, layout, plain
from condconv_mlx.charts.usage import LEGEND, LINES, MARKS, legend


def image_map(
    places: np.ndarray,
    names: Sequence[str],
    classes: Sequence[str],
    thumbnail: Callable[[int], str],
    axes: tuple[str, str] = ("", ""),
    values: tuple[str, np.ndarray] | None = None,
) -> go.Figure:
    """Images on a plane, a point each, with as many thumbnails as have room. Dragging draws a lasso.

    A point's `customdata` starts with the index of the image.

    Args:
        places: (N, 2).
        names: of the images.
        classes: for each image the name of its class; points have the colour and mark of it.
        thumbnail: of the image of that index, a small picture as a data URI; called for those that have room.
        axes: what they mean.
        values: instead of classes, a name and a number in [0, 1] for each image, (N,), to colour by.
    """
    if places.shape != (len(names), 2) or len(classes) != len(names):
        raise ValueError(f"places must be ({len(names)}, 2), a row for each image, got shape {places.shape}")
    figure = go.Figure()
    kinds = sorted(set(classes))
    # Every image is in one group: those of its class, or all if a scale of colours tells them apart.
    groups = {kind: [n for n, name in enumerate(classes) if name == kind] for kind in kinds}
    if values is not None:
        groups = {values[0]: list(range(len(names)))}
    for i, (kind, members) in enumerate(groups.items()):
        shade = "" if values is None else f"<br>{plain(values[0])} %{{marker.color:.3f}}"
        figure.add_scatter(
            x=places[members, 0],
            y=places[members, 1],
            mode="markers",
            name=plain(kind),
            marker={"color": LINES[i % len(LINES)], "symbol": MARKS[i % len(MARKS)], "size": 8},
            customdata=[(n, plain(names[n]), plain(classes[n])) for n in members],
            hovertemplate="%{customdata[1]}<br>%{customdata[2]}" + shade + "<extra></extra>",
        )
    if values is not None:
        bar = colorbar(plain(values[0]), tickvals=[0, 0.5, 1], ypad=LEGEND // 2)
        scale = {"color": values[1], "colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1, "colorbar": bar}
        figure.update_traces(marker={**scale, "symbol": "circle", "line": {"color": LINES[6], "width": 1}})
    span = np.maximum(places.max(axis=0) - places.min(axis=0), 1e-9)
    # Larger where there are few.
    width, height = min(max(0.5 / np.sqrt(len(places)), 0.05), 0.09) * span
    pictures = [
        {
            "source": thumbnail(n),
            **{"xref": "x", "yref": "y", "x": places[n, 0], "y": places[n, 1] + 0.015 * span[1]},
            **{"sizex": width, "sizey": height * 1.3, "xanchor": "center", "yanchor": "bottom", "layer": "below"},
        }
        for n in roomy(places, (width * 0.9, height * 1.4))
    ]
    # All at once: one by one, each of them would check those before it again.
    figure.update_layout(images=pictures)
    low, high = places.min(axis=0) - 0.06 * span, places.max(axis=0) + 0.1 * span
    figure.update_xaxes(title=axes[0], range=[low[0], high[0]], zeroline=False, showticklabels=False)
    figure.update_yaxes(title=axes[1], range=[low[1], high[1]], zeroline=False, showticklabels=False)
    layout(figure, 540, 10, LEGEND + 40, hovermode="closest")
    figure.update_layout(dragmode="lasso")
    return figure if values is not None else legend(figure)


def roomy(places: np.ndarray, size: tuple[float, float]) -> list[int]:
    """Of places (N, 2), from the first on, those at which pictures of that size (width, height) do not overlap."""
    kept: list[int] = []
    for n, place in enumerate(places):
        if not kept or (np.abs(places[kept] - place) >= size).any(axis=1).all():
            kept.append(n)
    return kept
