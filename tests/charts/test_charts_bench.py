"""Charts of measurements: values land where they should, and the hover says what they are."""

import json
from typing import Any

import pytest

from condconv_mlx.charts.bench import amounts, expert_costs, relative_times
from condconv_mlx.charts.style import ACCENT

ROWS = [("4→6, 3×3", "1×8×8"), ("6 each, <5×5>", "2×8×8")]
TIMES = {"static": [2.0, 4.0], "loop": [4.0, 5.0], "CondConv": [1.0, 6.0]}


def ratios() -> Any:
    return relative_times(ROWS, TIMES, "static", 2.0, "CondConv")


def test_times_are_divided_by_the_reference() -> None:
    loop, ours = ratios().data
    assert (loop.name, ours.name) == ("loop", "CondConv")
    assert list(ours.x) == [0.5, 1.5]
    assert list(loop.x) == [2.0, 1.25]
    assert ours.marker.color == ACCENT != loop.marker.color
    assert list(ours.customdata[0]) == ["4→6, 3×3, 1×8×8", 1.0, 2.0]
    assert "static" in ours.hovertemplate


def test_the_reference_and_the_limit_are_lines_and_the_first_row_is_at_the_top() -> None:
    figure = ratios()
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 2.0]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    assert "&lt;5×5&gt;" in figure.layout.yaxis.ticktext[1]
    assert {0.5, 1, 2} <= set(figure.layout.xaxis.tickvals)


def test_times_must_match_the_rows() -> None:
    with pytest.raises(ValueError, match="got 1 rows"):
        relative_times(ROWS[:1], TIMES, "static", 2.0, "CondConv")


def test_costs_are_lines_over_the_numbers_of_experts() -> None:
    figure = costs()
    kernels, outputs = figure.data
    assert list(kernels.x) == [1, 2, 4] and list(outputs.y) == [1.0, 2.0, 4.0]
    assert kernels.line.color == ACCENT != outputs.line.color
    assert list(figure.layout.xaxis.tickvals) == [1, 2, 4]
    assert "experts: %{y" in kernels.hovertemplate


def test_the_axis_of_experts_waits_for_those_to_come() -> None:
    names = {name: [1.0, 2.0] for name in ("kernels", "outputs", "static", "product")}
    figure = expert_costs([1, 2], names, "kernels", "million <multiply-adds>", ticks=[1, 2, 32])
    low, high = figure.layout.xaxis.range
    assert low < 0 and 10**high > 32
    assert list(figure.layout.xaxis.tickvals) == [1, 2, 32]
    assert figure.layout.yaxis.title.text == "million &lt;multiply-adds&gt;"
    assert len({line.line.dash for line in figure.data}) == 4
    assert figure.layout.margin.t > costs().layout.margin.t


def test_costs_have_marks_that_say_what_they_are() -> None:
    axis = expert_costs([1, 2], {"kernels": [0.05, 0.06], "outputs": [0.07, 2000.0]}, "kernels").layout.yaxis
    assert axis.tickvals[0] <= 0.05 and axis.tickvals[-1] >= 2000
    assert {"0.05", "0.1", "1", "20", "2,000"} <= set(axis.ticktext)
    assert all(float(text.replace(",", "")) == value for text, value in zip(axis.ticktext, axis.tickvals, strict=True))


def costs() -> Any:
    return expert_costs([1, 2, 4], {"kernels": [1.0, 1.1, 1.2], "outputs": [1.0, 2.0, 4.0]}, "kernels")


def bars() -> Any:
    return amounts([("one <process>", "CondConv", 1234.5), ("", "torch", 600.0)], "images", "CondConv", ("most", 2e3))


def test_amounts_are_bars_from_zero() -> None:
    figure = bars()
    assert list(figure.data[0].x) == [1234.5, 600.0]
    assert list(figure.data[0].text) == ["1,234", "600"]
    assert figure.data[0].marker.color[0] == ACCENT != figure.data[0].marker.color[1]
    assert list(figure.data[0].customdata) == ["CondConv, one &lt;process&gt;", "torch"]
    assert figure.layout.xaxis.range[0] == 0 and figure.layout.xaxis.range[1] > 2e3
    assert figure.layout.shapes[0].x0 == 2e3
    assert figure.layout.annotations[0].text == "most 2,000"


@pytest.mark.parametrize("figure", [ratios(), costs(), bars()])
def test_charts_fit_light_and_dark_pages(figure: Any) -> None:
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert figure.layout.height > 0 and figure.layout.width is None
    assert figure.layout.xaxis.title.text
    assert json.loads(figure.to_json())
