"""Charts of how experts are used over many images."""

import json

import numpy as np
import pytest

from condconv_mlx.charts import (
    class_depth,
    class_experts,
    clustered_images,
    image_map,
    usage_by_depth,
    weight_histograms,
)
from condconv_mlx.charts.places import roomy
from condconv_mlx.charts.style import expert_color

ROUTERS = ["blocks.1", "<b>head"]
MEANS = [np.array([[0.1, 0.9, 0.5], [0.4, 0.4, 0.2]]), np.array([[0.2, 0.3], [0.6, 0.7]])]
COUNTS = [np.array([[1, 2], [3, 4]]), np.array([[5, 0], [0, 5]])]
PLACES = np.array([[0.0, 0.0], [0.001, 0.0], [1.0, 1.0], [0.5, 0.2]])


def test_each_depth_has_a_line_for_each_class() -> None:
    figure = class_depth(ROUTERS, MEANS, ["cat", "dog"])
    assert [line.name for line in figure.data] == ["cat", "dog"] * 2
    np.testing.assert_allclose(figure.data[3].y, [0.6, 0.7])
    assert figure.data[3].yaxis == "y2" and figure.data[0].yaxis == "y"
    assert [line.showlegend for line in figure.data] == [True, True, False, False]
    colors, marks = {line.line.color for line in figure.data}, {line.marker.symbol for line in figure.data}
    assert len(colors) == len(marks) == 2
    assert [note.text for note in figure.layout.annotations] == ["blocks.1", "&lt;b&gt;head"]
    with pytest.raises(ValueError, match=r"\(1, E\) for each of 2 routers, got the shapes \[\(2, 3\), \(2, 2\)\]"):
        class_depth(ROUTERS, MEANS, ["cat"])


def test_histograms_stack_experts_in_their_colours() -> None:
    figure = weight_histograms(ROUTERS, COUNTS, np.array([0, 0.5, 1]), ["one peak", ""])
    assert figure.layout.barmode == "stack"
    assert [bar.marker.color for bar in figure.data] == [expert_color(0), expert_color(1)] * 2
    np.testing.assert_array_equal(figure.data[1].y, [3, 4])
    np.testing.assert_allclose(figure.data[1].x, [0.25, 0.75])
    assert list(figure.data[1].customdata) == ["0.00 to 0.50", "0.50 to 1.00"]
    assert "expert 2" in figure.data[1].hovertemplate
    assert [note.text for note in figure.layout.annotations] == ["blocks.1 · one peak", "&lt;b&gt;head"]
    with pytest.raises(ValueError, match=r"need \(E, 3\) for each of 2 routers"):
        weight_histograms(ROUTERS, COUNTS, np.linspace(0, 1, 4))


def test_shares_by_depth() -> None:
    figure = usage_by_depth(ROUTERS, {"entropy": [0.9, 0.8], "saturated": [0.1, 0.2]})
    assert [line.name for line in figure.data] == ["entropy", "saturated"]
    np.testing.assert_allclose(figure.data[1].y, [0.1, 0.2])
    assert len({(line.line.color, line.line.dash, line.marker.symbol) for line in figure.data}) == 2
    assert figure.layout.yaxis.tickformat == ".0%"
    with pytest.raises(ValueError, match="'entropy' for each of 2 routers, got 1"):
        usage_by_depth(ROUTERS, {"entropy": [0.9]})


def test_classes_by_experts() -> None:
    figure = class_experts(["cat", "<dog>"], MEANS[0])
    np.testing.assert_allclose(figure.data[0].z, MEANS[0])
    assert list(figure.layout.yaxis.ticktext) == ["cat", "&lt;dog&gt;"]
    assert list(figure.data[0].customdata[1][2]) == [3] and "%{customdata[0]}" in figure.data[0].hovertemplate
    with pytest.raises(ValueError, match=r"\(3, E\)"):
        class_experts(["a", "b", "c"], MEANS[0])


def test_images_by_all_experts_of_all_routers() -> None:
    figure = clustered_images(["a", "<b>"], ROUTERS, MEANS)
    assert len(figure.data) == 2
    for cells, means in zip(figure.data, MEANS, strict=True):
        np.testing.assert_allclose(cells.z, means)
    assert list(figure.data[0].x) == [0, 1, 2] and list(figure.data[1].x) == [3, 4]
    assert "&lt;b&gt;head, expert %{text}" in figure.data[1].hovertemplate and figure.data[1].text[0][1] == "2"
    # Each router's name in the middle of its columns, a line between them.
    assert list(figure.layout.xaxis.tickvals) == [1, 3.5]
    assert [line.x0 for line in figure.layout.shapes] == [2.5]
    assert list(figure.layout.yaxis.ticktext) == ["a", "&lt;b&gt;"] and figure.layout.yaxis.showticklabels
    many = clustered_images(["a"] * 500, ["r"], [np.zeros((500, 2))])
    assert many.layout.height < 2000 and not many.layout.yaxis.showticklabels
    with pytest.raises(ValueError, match=r"\(1, E\) for each of 2 routers"):
        clustered_images(["a"], ROUTERS, MEANS)


def test_a_lasso_finds_its_images() -> None:
    figure = image_map(PLACES, list("abcd"), ["dog", "cat", "dog", "cat"], "data:,{}".format)
    assert figure.layout.dragmode == "lasso"
    assert [group.name for group in figure.data] == ["cat", "dog"]
    assert [[point[0] for point in group.customdata] for group in figure.data] == [[1, 3], [0, 2]]
    np.testing.assert_allclose(figure.data[1].x, PLACES[[0, 2], 0])
    # The second would cover the first.
    assert [image.source for image in figure.layout.images] == ["data:,0", "data:,2", "data:,3"]


def test_a_map_coloured_by_a_weight() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4])
    figure = image_map(PLACES, list("abcd"), ["x"] * 4, "data:,{}".format, ("one", "two"), ("expert 3", values))
    np.testing.assert_allclose(figure.data[0].marker.color, values)
    assert len(figure.data) == 1 and [point[0] for point in figure.data[0].customdata] == [0, 1, 2, 3]
    assert figure.layout.xaxis.title.text == "one" and "expert 3" in figure.data[0].hovertemplate
    with pytest.raises(ValueError, match=r"\(3, 2\), a row for each image"):
        image_map(PLACES, list("abc"), ["x"] * 4, "data:,{}".format)
    assert image_map(PLACES[:1], ["a"], ["x"], "data:,{}".format).layout.xaxis.range[0] < 0


def test_thumbnails_do_not_overlap() -> None:
    places = np.random.default_rng(0).random((300, 2))
    kept = roomy(places, (0.1, 0.2))
    assert kept[0] == 0 and 10 < len(kept) < 60
    for n in range(300):
        covered = [m for m in kept if m < n and abs(places[m, 0] - places[n, 0]) < 0.1]
        covered = [m for m in covered if abs(places[m, 1] - places[n, 1]) < 0.2]
        assert (n in kept) == (not covered)


@pytest.mark.parametrize(
    "figure",
    [
        class_depth(ROUTERS, MEANS, ["cat", "dog"]),
        weight_histograms(ROUTERS, COUNTS, np.array([0, 0.5, 1])),
        usage_by_depth(ROUTERS, {"entropy": [0.9, 0.8]}),
        class_experts(["cat", "dog"], MEANS[0]),
        clustered_images(["a", "b"], ROUTERS, MEANS),
        image_map(PLACES, list("abcd"), ["x"] * 4, "data:,{}".format),
    ],
)
def test_fits_light_and_dark_pages(figure) -> None:
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert figure.layout.height > 0 and figure.layout.width is None
    assert json.loads(figure.to_json())
