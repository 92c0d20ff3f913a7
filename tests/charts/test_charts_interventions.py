"""Charts of what other routing would do: numbers land where they should, and the hover says what they are."""

import json

import numpy as np
import pytest

from condconv_mlx.charts import alternatives, before_after, silencing_chart
from condconv_mlx.charts.style import ACCENT

LABELS = ["cat", "dog", "<frog>"]
BEFORE = np.array([0.7, 0.2, 0.1])
WITHOUT = [np.array([[0.6, 0.3, 0.1], [0.2, 0.1, 0.7], [0.75, 0.2, 0.05]]), np.array([[0.7, 0.2, 0.1], [0.1, 0.9, 0]])]


def test_silencing_is_in_percentage_points_of_the_likeliest_class() -> None:
    figure = silencing_chart(["blocks.1", "classifier"], WITHOUT, BEFORE, LABELS, silenced=[(1, 0)])
    cells, points = figure.data
    points.customdata = [list(point) for point in points.customdata]
    np.testing.assert_allclose(cells.z, [[-10, -50, 5], [0, -60, np.nan]], atol=1e-9)
    assert (cells.zmin, cells.zmax) == (-60, 60)
    assert [list(point[:2]) for point in points.customdata] == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert [(x, y) for x, y in zip(points.x, points.y, strict=True)] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    assert points.customdata[1][2:] == ["20.0 %", "-50.0", "now likelier: &lt;frog&gt;", "2"]
    assert points.customdata[2][2:] == ["75.0 %", "+5.0", "still the likeliest", "3"]
    assert list(points.text) == ["-10", "-50", "+5", "0", "-60"] and points.mode == "markers+text"
    assert [color == "white" for color in points.textfont.color] == [False, True, False, False, True]
    assert "cat: 70.0 % → %{customdata[2]}" in points.hovertemplate
    # The first router is at the top, and the frame is round the first expert of the second.
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    shape = figure.layout.shapes[0]
    assert shape.x0 < 0 < shape.x1 < 1 and shape.y0 < 1 < shape.y1


def test_silencing_nothing_much_is_not_blown_up() -> None:
    figure = silencing_chart(["a"], [np.tile(BEFORE, (20, 1))], BEFORE, LABELS)
    assert figure.data[0].zmax == 1 and figure.data[1].mode == "markers"
    with pytest.raises(ValueError, match="2 routers and the probabilities of 1"):
        silencing_chart(["a", "b"], WITHOUT[:1], BEFORE, LABELS)


def test_before_stands_beside_after() -> None:
    figure = before_after(LABELS, BEFORE, np.array([0.1, 0.15, 0.75]), top=2)
    after, before = figure.data
    # The two highest in either, in the order of before.
    assert list(after.y) == list(before.y) == ["cat", "&lt;frog&gt;"]
    np.testing.assert_allclose(before.x, [0.7, 0.1])
    np.testing.assert_allclose(after.x, [0.1, 0.75])
    np.testing.assert_allclose(after.customdata, [-60, 65])
    assert after.marker.color[1] == ACCENT != after.marker.color[0]
    assert list(before.text) == ["70.0 %", "10.0 %"]
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        before_after(LABELS, BEFORE, np.array([0.5, 0.5]))


def test_alternatives_keep_to_the_class_of_the_first() -> None:
    figure = alternatives(["its own", "uniform"], np.stack([BEFORE, [0.3, 0.6, 0.1]]), LABELS)
    bars = figure.data[0]
    np.testing.assert_allclose(bars.x, [0.7, 0.3])
    assert list(bars.text) == ["70.0 %", "30.0 % · dog wins"]
    assert bars.marker.color[0] == ACCENT != bars.marker.color[1]
    assert list(figure.layout.yaxis.ticktext) == ["its own", "uniform"]
    with pytest.raises(ValueError, match=r"\(1, 3\), got shape \(3,\)"):
        alternatives(["its own"], BEFORE, LABELS)


@pytest.mark.parametrize(
    "figure",
    [
        silencing_chart(["a", "b"], WITHOUT, BEFORE, LABELS),
        before_after(LABELS, BEFORE, BEFORE),
        alternatives(["a"], BEFORE[None], LABELS),
    ],
)
def test_fits_light_and_dark_pages(figure) -> None:
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert figure.layout.height > 0 and figure.layout.width is None
    assert json.loads(figure.to_json())
