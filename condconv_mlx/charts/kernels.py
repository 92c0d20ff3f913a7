"""Kernels as tiled pictures: one tile for each input channel, side by side on one colour scale."""

import copy
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from condconv_mlx.charts.style import ACCENT, COLORBAR, DIVERGING, colorbar, layout

CAPTION = 26
CAPTION_LEAST = 19
SLIDER = 60
# Between two pictures of a row, as a share of the width.
SPACING = 0.03


def tile_slices(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A kernel as one near-square picture.

    Args:
        kernel: (kh, kw, I), the slice for each of I input channels; or (I,), a row of weights.

    Returns:
        The picture (rows, columns) with the slices in reading order, NaN between them and after the last; and for each
        of its cells (input channel, row in the slice, column in the slice), counted from 1, as int32.
    """
    if kernel.ndim == 1:
        kernel = kernel.reshape(1, 1, -1)
    if kernel.ndim != 3:
        raise ValueError(f"kernel must be (kh, kw, I) or (I,), got shape {kernel.shape}")
    kh, kw, count = kernel.shape
    # Slices of one weight touch: the gaps would take more room than the weights.
    gap = 0 if kh == kw == 1 else 1
    columns = math.ceil(math.sqrt(count * (kh + gap) / (kw + gap)))
    rows = math.ceil(count / columns)
    picture = np.full((rows * (kh + gap) - gap, columns * (kw + gap) - gap), np.nan, dtype=np.float32)
    where = np.zeros((*picture.shape, 3), dtype=np.int32)
    for channel in range(count):
        top, left = channel // columns * (kh + gap), channel % columns * (kw + gap)
        picture[top : top + kh, left : left + kw] = kernel[:, :, channel]
        where[top : top + kh, left : left + kw, 0] = channel + 1
        where[top : top + kh, left : left + kw, 1:] = np.moveaxis(np.indices((kh, kw)), 0, -1) + 1
    return picture, where


def kernel_tiles(
    kernels: Sequence[np.ndarray],
    captions: Sequence[str],
    limit: float | None = None,
    columns: int = 4,
    size: int = 150,
    emphasised: bool = False,
    scale: bool = True,
    quantity: str = "weight",
    color: bool = False,
) -> go.Figure:
    """Kernels beside each other, each a tiled picture of its slices, on one symmetric scale from -limit to limit.

    Args:
        kernels: each (kh, kw, I), or (I,) for the row of a fully connected layer.
        captions: a line of text over each.
        limit: the end of the scale; by default the largest absolute weight of all kernels.
        columns: pictures in a row.
        size: height of a picture in pixels.
        emphasised: frame the pictures in the accent colour.
        scale: draw the colour bar.
        quantity: what the numbers are.
        color: draw kernels of three input channels as red, green and blue, grey being zero.
    """
    if len(kernels) != len(captions) or not kernels:
        raise ValueError(f"need as many captions as kernels, and at least one: got {len(captions)} and {len(kernels)}")
    if limit is None:
        limit = max(float(np.abs(kernel).max()) for kernel in kernels)
    limit = limit or 1.0
    rows = math.ceil(len(kernels) / columns)
    bottom = COLORBAR if scale else 0
    height = CAPTION + rows * size + (rows - 1) * CAPTION + bottom
    look = copy.deepcopy(_grid(rows, columns, CAPTION / (height - CAPTION - bottom)))
    traces, shapes = [], []
    for i, (kernel, caption, place) in enumerate(zip(kernels, captions, _axes(len(kernels)), strict=True)):
        trace: Any
        if color and kernel.ndim == 3 and kernel.shape[-1] == 3:
            tall, wide = kernel.shape[:2]
            trace = _colored(kernel, caption, limit)
        else:
            trace = _tiled(kernel, caption, quantity)
            tall, wide = trace.z.shape
        traces.append(trace.update(xaxis=place[0], yaxis=place[1]))
        look["annotations"][i]["text"] = caption
        if emphasised:
            pad = 0.5 + 0.04 * max(tall, wide)
            frame = {"x0": -pad, "y0": -pad, "x1": wide - 1 + pad, "y1": tall - 1 + pad}
            line = {"color": ACCENT, "width": 2}
            shapes.append({"type": "rect", "xref": place[0], "yref": place[1], "line": line, **frame})
    look |= {
        "annotations": look["annotations"][: len(kernels)],
        "shapes": shapes,
        "coloraxis": _scale(limit, scale, quantity),
    }
    figure = go.Figure(traces, look)
    return layout(figure, height, CAPTION, bottom)


@cache
def _grid(rows: int, columns: int, spacing: float) -> dict[str, Any]:
    """The layout of so many pictures with captions yet without text, as plain JSON: Plotly takes its time to make it.

    Args:
        spacing: between rows, as a share of the height.
    """
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[" "] * (rows * columns),
        horizontal_spacing=SPACING,
        vertical_spacing=spacing,
    )
    figure.update_annotations(font={"size": 13}, yshift=2)
    figure.update_xaxes(visible=False, fixedrange=True, constrain="domain")
    # Under its caption, where the page is too narrow for pictures as high as their room.
    figure.update_yaxes(visible=False, fixedrange=True, constrain="domain", constraintoward="top", autorange="reversed")
    for x, y in _axes(rows * columns):
        figure.layout[y.replace("y", "yaxis")].scaleanchor = x
    # Every figure begins with a template of its own.
    return {name: value for name, value in figure.to_plotly_json()["layout"].items() if name != "template"}


def _axes(count: int) -> list[tuple[str, str]]:
    """Of each picture of a grid, in reading order, as `make_subplots` names them: x and y, x2 and y2, …"""
    return [(f"x{number}", f"y{number}") if number > 1 else ("x", "y") for number in range(1, count + 1)]


def fitting_height(count: int, columns: int, size: int, width: str) -> str:
    """How high `kernel_tiles` with its scale is where `width` is too narrow for pictures of that size: in CSS.

    The pictures are about square, so that what a narrow page takes from their width is to be taken from their height.

    Args:
        count: of the pictures.
        columns, size: as `kernel_tiles` has them.
        width: of the chart, as a CSS length.
    """
    rows = math.ceil(count / columns)
    share = (1 - SPACING * (columns - 1)) / columns
    ratio = rows + (rows - 1) * CAPTION / size
    # Captions between rows need their room, which shrinks with all else.
    least = ratio * size * CAPTION_LEAST / CAPTION if rows > 1 else 0
    pictures = f"max({least:.0f}px, {ratio:.4f} * min({size}px, {share:.4f} * ({width})))"
    return f"calc({CAPTION + COLORBAR}px + {pictures})"


def build_up_tiles(sums: np.ndarray, captions: Sequence[str], limit: float, size: int = 266) -> go.Figure:
    """A kernel as it is added up, with a button that plays it and a slider to stop anywhere.

    Args:
        sums: the kernel after each step, (steps, kh, kw, I) or (steps, I).
        captions: what was added, a line for each step.
        limit: the end of the scale, as in `kernel_tiles`.
        size: height of the picture in pixels.
    """
    if len(sums) != len(captions) or not len(sums):
        raise ValueError(f"need as many captions as sums, and at least one: got {len(captions)} and {len(sums)}")
    names = [f"{i + 1}" for i in range(len(sums))]
    figure = go.Figure(
        _tiled(sums[-1], "Mixed", "weight"),
        frames=[
            go.Frame(data=[_tiled(kernel, "so far", "weight")], name=name, layout={"title": {"text": caption}})
            for kernel, name, caption in zip(sums, names, captions, strict=True)
        ],
    )
    figure.update_xaxes(visible=False, fixedrange=True, constrain="domain")
    figure.update_yaxes(visible=False, fixedrange=True, constrain="domain", autorange="reversed", scaleanchor="x")
    still = {"frame": {"duration": 0, "redraw": True}, "mode": "immediate"}
    play = {"frame": {"duration": 700, "redraw": True}, "transition": {"duration": 0}, "fromcurrent": False}
    place = {"yanchor": "top", "y": 0, "pad": {"t": 10}}
    figure.update_layout(
        coloraxis=_scale(limit, False, "weight"),
        title={"text": captions[-1], "font": {"size": 13}, "x": 0.5, "xanchor": "center", "y": 0.99, "yanchor": "top"},
        updatemenus=[
            {
                "type": "buttons",
                "buttons": [{"label": "▶", "method": "animate", "args": [None, play]}],
                "showactive": False,
                "x": 0,
                "xanchor": "left",
                "bgcolor": "rgba(134, 142, 150, 0.15)",
                "bordercolor": "rgba(0, 0, 0, 0)",
                **place,
            }
        ],
        sliders=[
            {
                "active": len(sums) - 1,
                "steps": [{"label": name, "method": "animate", "args": [[name], still]} for name in names],
                "x": 0.14,
                "len": 0.86,
                "currentvalue": {"visible": False},
                "bgcolor": "rgba(134, 142, 150, 0.25)",
                "activebgcolor": ACCENT,
                "bordercolor": "rgba(0, 0, 0, 0)",
                "tickcolor": "rgba(0, 0, 0, 0)",
                **place,
            }
        ],
    )
    return layout(figure, CAPTION + size + SLIDER, CAPTION, SLIDER)


def _tiled(kernel: np.ndarray, name: str, quantity: str) -> go.Heatmap:
    picture, where = tile_slices(kernel)
    # A depthwise kernel has one slice, of the channel that it is for.
    where_from = "" if kernel.shape[-1] == 1 else "input channel %{customdata[0]}<br>"
    inside = "" if max(kernel.shape[:-1], default=1) == 1 else "row %{customdata[1]}, column %{customdata[2]}<br>"
    return go.Heatmap(
        z=picture,
        customdata=where,
        coloraxis="coloraxis",
        hoverongaps=False,
        hovertemplate=f"{where_from}{inside}{quantity} %{{z:.4f}}<extra>{name}</extra>",
    )


def _colored(kernel: np.ndarray, name: str, limit: float) -> go.Image:
    shades = np.clip(np.round(127.5 + 127.5 * kernel / limit), 0, 255).astype(np.uint8)
    return go.Image(
        z=shades,
        customdata=kernel,
        hovertemplate="row %{y}, column %{x}<br>red %{customdata[0]:.4f}, green %{customdata[1]:.4f}, "
        f"blue %{{customdata[2]:.4f}}<extra>{name}</extra>",
    )


def _scale(limit: float, shown: bool, quantity: str) -> dict[str, Any]:
    return {
        "colorscale": DIVERGING,
        "cmin": -limit,
        "cmax": limit,
        "showscale": shown,
        "colorbar": colorbar(quantity, tickvals=[-limit, 0, limit], tickformat=".2f"),
    }
