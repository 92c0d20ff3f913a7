"""Charts of two models or two images: numbers land where they should, and the hover says what they are."""

import numpy as np
import pytest

from condconv_mlx.charts import answer_map, class_pairs, cost_bars, distance_by_depth, routing_heatmap, times

NAMES = ("8 experts", "<static>")
LABELS = ["cat", "dog", "<frog>"]
FIRST, SECOND = np.array([0.7, 0.25, 0.05]), np.array([0.1, 0.15, 0.75])


def test_a_bar_for_each_of_two() -> None:
    figure = class_pairs(LABELS, NAMES, FIRST, SECOND, top=2)
    first, second = figure.data
    assert (first.name, second.name) == ("8 experts", "&lt;static&gt;")
    # The two that are highest in either, in the order of the first.
    assert list(first.y) == list(second.y) == ["cat", "&lt;frog&gt;"]
    np.testing.assert_allclose(first.x, [0.7, 0.05])
    np.testing.assert_allclose(second.x, [0.1, 0.75])
    assert list(second.text) == ["10.0 %", "75.0 %"] and first.marker.color != second.marker.color
    assert figure.layout.showlegend
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        class_pairs(LABELS, NAMES, FIRST, SECOND[:2])


def test_each_picture_is_a_point_that_knows_its_place() -> None:
    kinds = ["both right", "only <static> right", "both right"]
    figure = answer_map(NAMES, ["a", "b", "<c>"], ["cat", "dog", "cat"], FIRST, SECOND, kinds, ["x", "y", "z"], 2)
    both, only, ring = figure.data
    assert [list(point) for point in both.customdata] == [[0, "a", "cat", "x"], [2, "&lt;c&gt;", "cat", "z"]]
    assert only.name == "only &lt;static&gt; right" and list(only.x) == [0.25] and list(only.y) == [0.15]
    assert list(ring.x) == [0.05] and list(ring.y) == [0.75] and ring.hoverinfo == "skip"
    assert both.marker.symbol != only.marker.symbol and both.unselected.marker.opacity == both.marker.opacity
    assert figure.layout.yaxis.title.text == "by &lt;static&gt;"
    assert len(answer_map(NAMES, ["a"], ["cat"], FIRST[:1], SECOND[:1], ["both right"], [""]).data) == 1
    with pytest.raises(ValueError, match="which are 2"):
        answer_map(NAMES, ["a", "b"], ["cat"], FIRST[:2], SECOND[:2], ["", ""], ["", ""])


def test_distances_beside_the_usual_ones() -> None:
    figure = distance_by_depth(["one", "two"], [0.1, 0.4], [0.2, 0.5])
    np.testing.assert_allclose(figure.data[0].y, [0.1, 0.4])
    assert [line.y0 for line in figure.layout.shapes] == [0.2, 0.5]
    assert figure.layout.yaxis.range[1] > 0.5
    assert list(figure.data[0].customdata[1]) == ["two", ", usually 0.500"]
    with pytest.raises(ValueError, match="each of 2 routers, got 1"):
        distance_by_depth(["one", "two"], [0.1], [0.2])


def test_costs_are_stacked_in_a_unit_that_suits_them() -> None:
    figure = cost_bars(NAMES, {"kernels": [3e6, 2.5e6], "mixing": [1e6, 0], "none": [0, 0]}, "multiply-adds")
    np.testing.assert_allclose(figure.data[0].x, [3, 2.5])
    assert figure.layout.barmode == "stack" and figure.layout.xaxis.title.text == "million multiply-adds"
    assert [note.text for note in figure.layout.annotations] == ["4", "2.5"]
    assert list(figure.data[1].customdata[0]) == ["8 experts", "1,000,000", "25.0%"]
    assert [bar.showlegend for bar in figure.data] == [True, True, False]
    assert cost_bars(["a · b"], {"x": [12]}, "parameters").layout.xaxis.title.text == "parameters"
    assert cost_bars(["a · b"], {"x": [12]}, "parameters").layout.yaxis.ticktext == ("a<br>b",)
    with pytest.raises(ValueError, match="2 models, got 1"):
        cost_bars(NAMES, {"x": [1]}, "parameters")


def test_every_time_is_a_dot() -> None:
    figure = times(NAMES, [[1.5, 2.5], [1.0, 1.25, 9.0]])
    assert [list(box.x) for box in figure.data] == [[1.5, 2.5], [1.0, 1.25, 9.0]]
    assert all(box.boxpoints == "all" for box in figure.data)
    assert list(figure.data[1].y) == [1, 1, 1]
    # By hand: the 95th percentile of three values lies nine tenths from the second to the third.
    assert figure.layout.xaxis.range == pytest.approx((0, 1.2 * (1.25 + 0.9 * 7.75)))
    with pytest.raises(ValueError, match=r"\[2, 0\]"):
        times(NAMES, [[1.0, 2.0], []])


def test_a_difference_from_another_picture_says_so() -> None:
    figure = routing_heatmap(["a"], [["a"]], [FIRST], [SECOND], difference=True, other="my <dog>")
    np.testing.assert_allclose(figure.data[0].z, [FIRST - SECOND])
    assert figure.data[0].colorbar.title.text == "more or less than my &lt;dog&gt;"
    assert "my &lt;dog&gt; 0.100: 7.0 times as active" in str(figure.data[0].customdata)
