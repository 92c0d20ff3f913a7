"""Charts: values land where they should, and the hover says what they are."""

import json
from typing import Any

import numpy as np
import pytest

from condconv_mlx.charts import (
    build_up_tiles,
    class_bars,
    expert_bars,
    expert_usage,
    fitting_height,
    kernel_tiles,
    percent,
    routing_heatmap,
    tile_slices,
)
from condconv_mlx.charts.style import ACCENT, EXPERTS, expert_color

WEIGHTS = [np.array([0.1, 0.9, 0.5]), np.array([0.2, 0.3])]
ROUTERS = ["blocks.1", "classifier"]
LAYERS = [["blocks.1.conv1", "blocks.1.conv2"], ["classifier"]]


def test_bars_start_with_the_likeliest() -> None:
    bars = class_bars(["cat", "dog", "frog"], np.array([0.2, 0.7, 0.1])).data[0]
    assert list(bars.y) == ["dog", "cat", "frog"]
    np.testing.assert_allclose(bars.x, [0.7, 0.2, 0.1])
    assert list(bars.text) == ["70.0 %", "20.0 %", "10.0 %"]
    assert bars.marker.color[0] == ACCENT != bars.marker.color[1]
    assert "%{x" in bars.hovertemplate


def test_bars_draw_the_top_alone_and_check_their_shapes() -> None:
    assert len(class_bars([str(i) for i in range(100)], np.full(100, 0.01), top=5).data[0].y) == 5
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        class_bars(["a", "b", "c"], np.array([0.5, 0.5]))


@pytest.mark.parametrize(
    "value, text",
    [(0.5, "50.0 %"), (0.99999, "99.9 %"), (1.0, "100.0 %"), (0.0001, "< 0.1 %"), (0.0, "< 0.1 %"), (0.001, "0.1 %")],
)
def test_percent_never_rounds_to_a_certainty(value: float, text: str) -> None:
    assert percent(value) == text


def test_routing_weights_land_in_their_cells() -> None:
    figure = routing_heatmap(ROUTERS, LAYERS, WEIGHTS)
    cells = figure.data[0]
    np.testing.assert_array_equal(cells.z, [[0.1, 0.9, 0.5], [0.2, 0.3, np.nan]])
    assert (cells.zmin, cells.zmax) == (0, 1)
    assert list(figure.layout.yaxis.ticktext) == ROUTERS
    assert [name.split("<br>")[1] for name in figure.layout.xaxis.ticktext] == ["1", "2", "3"]
    assert all(expert_color(i) in name for i, name in enumerate(figure.layout.xaxis.ticktext))
    # The first router is at the top.
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    assert cells.customdata[0][1][1] == "blocks.1.conv1, blocks.1.conv2"
    assert "%{customdata[1]}" in cells.hovertemplate and cells.customdata[0][1][2] == 0.9


def test_a_click_finds_its_router() -> None:
    figure = routing_heatmap(ROUTERS, LAYERS, WEIGHTS, selected=1, clickable=True)
    heatmap, markers = figure.data
    assert heatmap.hoverinfo == "skip"
    assert len(markers.x) == 5
    assert [point[0] for point in markers.customdata] == [0, 0, 0, 1, 1]
    assert [point[2] for point in markers.customdata] == [0.1, 0.9, 0.5, 0.2, 0.3]
    assert "%{customdata[2]:" in markers.hovertemplate
    assert list(figure.layout.yaxis.ticktext) == ["blocks.1", "<b>classifier</b>"]


def test_a_hover_tells_what_is_usual() -> None:
    usual = [np.array([0.2, 0.3, 0.5]), np.array([0.2, 0.001])]
    figure = routing_heatmap(ROUTERS, LAYERS, WEIGHTS, usual, clickable=True)
    np.testing.assert_array_equal(figure.data[0].z[0], WEIGHTS[0])
    told = [point[3] for point in figure.data[1].customdata]
    assert told[0] == ", usually 0.200: 0.5 times as active" and told[1] == ", usually 0.300: 3.0 times as active"
    # Beside nearly nothing, everything is many times as active.
    assert told[4] == ", usually 0.001"
    assert "%{customdata[3]}" in figure.data[1].hovertemplate


def test_a_difference_is_on_a_symmetric_scale_and_a_cell_is_framed_in_its_colour() -> None:
    usual = [np.array([0.2, 0.3, 0.5]), np.array([0.2, 0.1])]
    figure = routing_heatmap(ROUTERS, LAYERS, WEIGHTS, usual, selected=0, expert=2, difference=True)
    np.testing.assert_allclose(figure.data[0].z, [[-0.1, 0.6, 0.0], [0.0, 0.2, np.nan]], atol=1e-12)
    assert -figure.data[0].zmin == figure.data[0].zmax == pytest.approx(0.6)
    (frame,) = figure.layout.shapes
    assert frame.line.color == expert_color(2) and (frame.x0, frame.x1, frame.y0, frame.y1) == (1.5, 2.5, -0.5, 0.5)
    assert not routing_heatmap(ROUTERS, LAYERS, WEIGHTS, selected=1, expert=2).layout.shapes
    with pytest.raises(ValueError, match="usual"):
        routing_heatmap(ROUTERS, LAYERS, WEIGHTS, difference=True)


def test_bars_of_experts_have_their_colours_and_usual_ends() -> None:
    figure = expert_bars(WEIGHTS[0], np.array([0.2, 0.3, 0.4]), selected=1)
    bars = figure.data[0]
    np.testing.assert_array_equal(bars.y, WEIGHTS[0])
    assert list(bars.marker.color) == [expert_color(i) for i in range(3)]
    assert bars.marker.opacity[1] == 1 > bars.marker.opacity[0]
    assert [(line.y0, line.y1) for line in figure.layout.shapes] == [(0.2, 0.2), (0.3, 0.3), (0.4, 0.4)]
    assert bars.customdata[1][0] == 2 and "3.0 times" in bars.customdata[1][1]
    assert not expert_bars(WEIGHTS[0]).layout.shapes
    with pytest.raises(ValueError, match=r"\(3,\)"):
        expert_bars(WEIGHTS[0], WEIGHTS[1])


def test_a_kernel_builds_up_frame_by_frame() -> None:
    sums = np.cumsum(np.random.default_rng(0).standard_normal((3, 3, 3, 2)), axis=0)
    figure = build_up_tiles(sums, ["a", "+ b", "+ c"], limit=4.0)
    for frame, kernel in zip(figure.frames, sums, strict=True):
        np.testing.assert_allclose(frame.data[0].z, tile_slices(kernel)[0])
    np.testing.assert_allclose(figure.data[0].z, tile_slices(sums[-1])[0])
    assert [frame.layout.title.text for frame in figure.frames] == ["a", "+ b", "+ c"]
    steps = figure.layout.sliders[0].steps
    assert [list(step.args[0]) for step in steps] == [[frame.name] for frame in figure.frames]
    assert figure.layout.sliders[0].active == 2
    with pytest.raises(ValueError, match="2 and 3"):
        build_up_tiles(sums, ["a", "b"], limit=1)


def test_kernels_of_three_channels_can_be_coloured() -> None:
    kernel = np.array([[[0.0, 1.0, -1.0]]])
    figure = kernel_tiles([kernel], ["1"], limit=1.0, color=True)
    assert figure.data[0].type == "image"
    assert np.array(figure.data[0].z)[0, 0].tolist() == [128, 255, 0]
    assert kernel_tiles([kernel], ["1"]).data[0].type == "heatmap"
    assert kernel_tiles([np.ones((1, 1, 2))], ["1"], color=True).data[0].type == "heatmap"


def test_routing_lists_must_match() -> None:
    with pytest.raises(ValueError, match="2 routers, 1 lists"):
        routing_heatmap(ROUTERS, LAYERS[:1], WEIGHTS)


def test_usage_has_a_row_for_each_image() -> None:
    weights = np.random.default_rng(0).random((3, 4))
    figure = expert_usage(["a.png", "a.png", "b.png"], weights, ["cat", "dog", "cat"], ["data:,", "data:,", "data:,"])
    np.testing.assert_allclose(figure.data[0].z, weights)
    assert list(figure.layout.yaxis.ticktext) == ["a.png", "a.png", "b.png"]
    assert figure.data[0].customdata[1][0][1] == "dog"
    assert [image.y for image in figure.layout.images] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"\(2, E\)"):
        expert_usage(["a", "b"], weights)


def test_names_are_shown_as_they_are() -> None:
    figure = expert_usage(["<a href='x'>b</a>.png"], np.zeros((1, 2)), ["<i>cat</i>"])
    assert figure.layout.yaxis.ticktext[0] == "&lt;a href='x'&gt;b&lt;/a&gt;.png"
    assert figure.data[0].customdata[0][0][1] == "&lt;i&gt;cat&lt;/i&gt;"
    assert class_bars(["<b>", "c"], np.array([0.6, 0.4])).data[0].y[0] == "&lt;b&gt;"


def test_more_images_make_it_higher() -> None:
    heights = [expert_usage(["x"] * n, np.zeros((n, 2))).layout.height for n in (1, 10, 100)]
    assert heights == sorted(heights) and heights[2] < 4000


def test_slices_are_tiled_in_reading_order() -> None:
    kernel = np.arange(3 * 3 * 4, dtype=np.float32).reshape(3, 3, 4)
    picture, where = tile_slices(kernel)
    assert picture.shape == (7, 7)
    np.testing.assert_array_equal(picture[:3, :3], kernel[:, :, 0])
    np.testing.assert_array_equal(picture[:3, 4:], kernel[:, :, 1])
    np.testing.assert_array_equal(picture[4:, :3], kernel[:, :, 2])
    assert np.isnan(picture[3]).all() and np.isnan(picture[:, 3]).all()
    assert where[0, 0].tolist() == [1, 1, 1]
    assert where[4 + 1, 4 + 2].tolist() == [4, 2, 3]


@pytest.mark.parametrize("shape", [(128,), (1, 1, 128), (3, 3, 1), (3, 3, 64), (5, 3, 7), (7, 7, 3)])
def test_every_weight_is_in_a_near_square_picture(shape: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    picture, where = tile_slices(kernel)
    shown = ~np.isnan(picture)
    np.testing.assert_array_equal(np.sort(picture[shown]), np.sort(kernel, axis=None))
    assert where[shown].min() == 1
    assert max(picture.shape) <= 2 * min(picture.shape) + 8


def test_tiles_share_one_symmetric_scale() -> None:
    kernels = [np.full((3, 3, 2), value, np.float32) for value in (0.1, -0.4, 0.2)]
    figure = kernel_tiles(kernels, ["1 · 0.50", "2 · 0.25", "3 · 0.75"], columns=2)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == pytest.approx((-0.4, 0.4))
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}
    assert [title.text for title in figure.layout.annotations] == ["1 · 0.50", "2 · 0.25", "3 · 0.75"]
    assert "input channel %{customdata[0]}<br>row %{customdata[1]}" in figure.data[0].hovertemplate
    assert "2 · 0.25" in figure.data[1].hovertemplate
    row = kernel_tiles([np.ones(12)], ["Mixed"], limit=2.0, columns=1, emphasised=True, scale=False)
    assert "row" not in row.data[0].hovertemplate
    assert row.layout.shapes[0].line.color == ACCENT
    assert row.layout.coloraxis.cmax == 2.0 and row.layout.coloraxis.showscale is False


def test_figures_of_one_grid_share_nothing() -> None:
    kernels = [np.ones((3, 3, 2))] * 3
    first = kernel_tiles(kernels, ["a", "b", "c"], columns=2, emphasised=True)
    first.update_yaxes(visible=True)
    first.layout.annotations[0].text = "changed"
    second = kernel_tiles(kernels[:1], ["d"], columns=2)
    third = kernel_tiles(kernels, ["e", "f", "g"], columns=2)
    assert [len(figure.layout.shapes) for figure in (first, second, third)] == [3, 0, 0]
    assert [note.text for note in second.layout.annotations] == ["d"]
    assert [note.text for note in third.layout.annotations] == ["e", "f", "g"]
    assert not third.layout.yaxis.visible and third.layout.yaxis4.scaleanchor == "x4"
    assert [(trace.xaxis, trace.yaxis) for trace in third.data] == [("x", "y"), ("x2", "y2"), ("x3", "y3")]


def test_kernels_of_zeros_and_wrong_shapes() -> None:
    assert kernel_tiles([np.zeros((3, 3, 2))], ["nil"]).layout.coloraxis.cmax > 0
    with pytest.raises(ValueError, match="1 and 2"):
        kernel_tiles([np.zeros(3), np.zeros(3)], ["one"])
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        tile_slices(np.zeros((2, 2)))


@pytest.mark.parametrize("count, columns, size, width", [(3, 3, 220, 358), (8, 4, 120, 358), (8, 4, 120, 900)])
def test_height_that_square_pictures_take(count: int, columns: int, size: int, width: int) -> None:
    """In a plot of that height, Plotly has as much height as width for a picture, and a little for captions."""
    css = fitting_height(count, columns, size, f"{width}px").removeprefix("calc").replace("px", "")
    plot = eval(css, {"min": min, "max": max}) - 26 - 64
    figure = kernel_tiles([np.ones((3, 3, 4))] * count, ["1"] * count, columns=columns, size=size)
    across, down = figure.layout.xaxis.domain, figure.layout.yaxis.domain
    high, wide = plot * (down[1] - down[0]), width * (across[1] - across[0])
    assert -1 < high - min(size, wide) < 8
    full = eval(fitting_height(count, columns, size, "1e5px").removeprefix("calc").replace("px", ""))
    assert full == pytest.approx(figure.layout.height, abs=1)


FIGURES: list[Any] = [
    class_bars(["a", "b"], np.array([0.4, 0.6])),
    routing_heatmap(ROUTERS, LAYERS, WEIGHTS, clickable=True),
    expert_usage(["a"], np.array([[0.5, 0.5]])),
    kernel_tiles([np.ones((3, 3, 2))], ["1"]),
    expert_bars(np.array([0.5, 0.5]), np.array([0.2, 0.3])),
    build_up_tiles(np.ones((2, 3, 3, 2)), ["1", "2"], 1.0),
]


@pytest.mark.parametrize("figure", FIGURES)
def test_charts_fit_light_and_dark_pages(figure: Any) -> None:
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert figure.layout.height > 0 and figure.layout.width is None
    assert json.loads(figure.to_json())


# Of light, as each kind of cone that is missing leaves it: Machado, Oliveira and Fernandes 2009, table 1, severity 1.
PROTANOPE = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTERANOPE = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]


def light(color: str) -> np.ndarray:
    """#RRGGBB as linear light."""
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(linear: np.ndarray) -> np.ndarray:
    """Linear light as OKLab (Ottosson 2020), where distance is what the eye tells apart."""
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    axes = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(axes) @ np.cbrt(np.array(cones) @ np.clip(linear, 0, 1))


@pytest.mark.parametrize("eye", [np.eye(3), PROTANOPE, DEUTERANOPE], ids=["normal", "no red", "no green"])
def test_experts_can_be_told_apart(eye: Any) -> None:
    seen = [oklab(np.array(eye) @ light(color)) for color in EXPERTS]
    apart = np.array([[np.linalg.norm(a - b) for b in seen] for a in seen]) + np.eye(len(seen))
    # 0.02 is just noticeable side by side; 0.1 is black and a very dark grey.
    assert apart[:8, :8].min() > 0.1
    assert apart.min() > 0.03
    assert len(EXPERTS) == 32 and expert_color(32) == expert_color(0)


def test_experts_are_seen_on_white_and_on_black() -> None:
    luminance = np.array([light(color) @ [0.2126, 0.7152, 0.0722] for color in EXPERTS])
    assert (1.05 / (luminance + 0.05)).min() > 1.5
    assert ((luminance + 0.05) / (float(light("#0E1117") @ [0.2126, 0.7152, 0.0722]) + 0.05)).min() > 2
