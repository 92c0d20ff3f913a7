"""Charts of a study: dots and intervals land where they should."""

import json
from typing import Any

import pytest

from condconv_mlx.charts.study import Row, accuracies, by_experts, differences
from condconv_mlx.charts.style import ACCENT

ROWS = [
    Row("static", "2 M", 80.0, (79.0, 81.0), {0: 79.5, 2: 80.5}),
    Row("<CondConv>", "", 82.0, None, {0: 82.0}, accented=True),
]


def test_a_row_has_its_seeds_its_mean_and_its_interval() -> None:
    seeds, plain, accented = accuracies(ROWS).data
    assert list(seeds.x) == [79.5, 80.5, 82.0]
    assert [tuple(each) for each in seeds.customdata] == [("static", 0), ("static", 2), ("&lt;CondConv&gt;", 0)]
    assert list(plain.x) == [80.0] and list(accented.x) == [82.0]
    assert list(plain.error_x.array) == list(plain.error_x.arrayminus) == [1.0]
    assert list(accented.error_x.array) == [0]
    assert accented.marker.color == ACCENT != plain.marker.color
    assert plain.customdata[0][1] == ", 79.00 to 81.00" and accented.customdata[0][1] == ""


def test_the_first_row_is_at_the_top_and_all_is_in_range() -> None:
    figure = accuracies(ROWS)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    low, high = figure.layout.xaxis.range
    assert low < 79.0 and high > 82.0
    assert "&lt;CondConv&gt;" in figure.layout.yaxis.ticktext[1] and "2 M" in figure.layout.yaxis.ticktext[0]


def test_differences_have_zero_and_the_target_in_range() -> None:
    rows = [Row("a", "less b", 2.0, (1.5, 2.5), {0: 2.0})]
    figure = differences(rows, target=0.3)
    assert [shape.x0 for shape in figure.layout.shapes] == [0, 0.3]
    assert figure.layout.xaxis.range[0] < 0 and figure.layout.xaxis.range[1] > 2.5
    assert len(differences(rows).layout.shapes) == 1


def test_by_experts() -> None:
    figure = by_experts([1, 8], ROWS, ("static", 78.0))
    seeds, line = figure.data
    assert list(seeds.x) == [1, 1, 8] and list(line.x) == [1, 8] and list(line.y) == [80.0, 82.0]
    assert list(line.error_y.array) == [1.0, 0]
    assert figure.layout.shapes[0].y0 == 78.0 and "78.00 %" in figure.layout.annotations[0].text
    assert list(figure.layout.xaxis.tickvals) == [1, 8]


@pytest.mark.parametrize("figure", [accuracies(ROWS), differences(ROWS), by_experts([1, 8], ROWS, ("static", 78.0))])
def test_charts_fit_light_and_dark_pages(figure: Any) -> None:
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert figure.layout.height > 0 and figure.layout.width is None
    assert figure.layout.xaxis.title.text
    assert json.loads(figure.to_json())
