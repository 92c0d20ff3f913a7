"""Learning curves, and how the experts were used."""

import json
import math

import numpy as np
import pytest

from condconv_mlx.charts.style import ACCENT
from condconv_mlx.charts.training import COLOURS, Line, curves, expert_history


def test_lines_of_a_group_share_a_colour():
    figure = curves(
        [
            Line("one, held out", [1, 2], [80.0, 85.0], group="one"),
            Line("one, training", [1, 2], [70.0, None], dashed=True, group="one"),
            Line("<two>", [1, 2, 3], [60.0, 70.0, 75.0]),
        ],
        "%",
    )
    first, second, other = figure.data
    assert first.line.color == second.line.color == ACCENT != other.line.color
    assert (first.line.dash, second.line.dash) == (None, "dot")
    assert list(second.y) == [70.0, None] and list(other.x) == [1, 2, 3]
    assert other.name == "&lt;two&gt;" and "%{y:.4~g} %" in other.hovertemplate
    assert figure.layout.yaxis.ticksuffix == " %" and figure.layout.showlegend


def test_a_group_keeps_its_colour_where_others_have_no_line():
    figure = curves([Line("two, entropy", [1], [0.5], group="two")], groups=["one", "two"])
    assert figure.data[0].line.color == COLOURS[1]


def test_colours_come_again_and_one_line_needs_no_legend():
    lines = [Line(str(i), [1], [1.0]) for i in range(9)]
    colours = [trace.line.color for trace in curves(lines).data]
    assert colours == [*COLOURS, *COLOURS[:2]]
    assert not curves(lines[:1]).layout.showlegend


def test_axes():
    line = [Line("a", [1, 2], [0.1, 0.2])]
    assert curves(line, logarithmic=True).layout.yaxis.type == "log"
    figure = curves(line, extent=(0, 1), x_title="step")
    assert tuple(figure.layout.yaxis.range) == (0, 1) and figure.layout.xaxis.title.text == "step"


def test_a_line_has_as_many_values_as_positions():
    with pytest.raises(ValueError, match="2 positions and 1 values"):
        curves([Line("a", [1, 2], [1.0])])


def test_the_use_of_experts_is_a_row_each_and_cells_lie_about_their_epochs():
    figure = expert_history([1, 2, 4], [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    (heatmap,) = figure.data
    assert np.allclose(heatmap.z, [[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])
    assert list(heatmap.x) == [0.5, 1.5, 3.0, 5.0]
    assert (heatmap.zmin, heatmap.zmax) == (0, 1)
    # The first expert is at the top.
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    assert list(expert_history([3], [[0.5]]).data[0].x) == [2.5, 3.5]


@pytest.mark.parametrize("usage", [[0.5, 0.5], [[0.5]], [[], []]])
def test_the_use_of_experts_has_a_row_for_each_epoch(usage):
    if usage == [[], []]:
        with pytest.raises(ValueError, match="a row for each epoch"):
            expert_history([], np.zeros((0, 2)))
    else:
        with pytest.raises(ValueError, match="a row for each epoch"):
            expert_history([1, 2], usage)


@pytest.mark.parametrize("figure", [curves([Line("a", [1], [math.nan])]), expert_history([1], [[0.5, 0.5]])])
def test_charts_fit_light_and_dark_pages(figure):
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert figure.layout.height > 0 and figure.layout.width is None
    assert json.loads(figure.to_json())
