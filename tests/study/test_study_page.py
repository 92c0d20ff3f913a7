"""The page: everything in one file, and what it says."""

import re

import pytest
from study_material import CLASSES, RECIPE, SHAPE, keep, planned, result

from condconv_mlx.study import QUESTIONS
from condconv_mlx.study.page import page, text
from condconv_mlx.study.plan import questions
from condconv_mlx.study.results import answer


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """CondConv half a point ahead of static, in every seed almost alike; no run of softmax is done."""
    folder = tmp_path_factory.mktemp("study")
    for run in planned(list(QUESTIONS)):
        if run.model.get("routing") != "softmax":
            ahead = 0.005 if run.model["num_experts"] else 0.0
            keep(folder, run, result(run, 0.88 + ahead + 0.0001 * run.training["seed"] * (1 + 10 * ahead)))
    asked = questions(RECIPE, SHAPE, CLASSES)
    return [answer(RECIPE, question, folder, SHAPE) for question in asked]


@pytest.fixture(scope="module")
def written(answers):
    return page(RECIPE, "Pictures <of> things", answers)


def test_it_needs_nothing_beside_itself(written):
    markup = re.sub(r"<script.*?</script>", "", written, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)\s*=", markup)
    assert not re.search(r"<script[^>]+src=", written)
    assert len(re.findall(r"plotly\.js v\d", written)) == 1


def test_every_question_has_its_charts_and_what_is_missing_is_said(written):
    assert written.count("<section id=") == len(QUESTIONS)
    # Softmax has no run, so there is nothing to compare sigmoid with.
    assert written.count('class="plotly-graph-div"') == 2 * len(QUESTIONS) - 1
    assert "6 of its runs are still to be done" in written


def test_it_says_what_was_shared_and_what_came_out(written):
    assert "20,000 training images" in written and "6 epochs, batches of 128" in written
    assert "on Device(cpu, 0) by condconv-mlx 0.1.0, 2026-11-24" in written
    assert "Pictures &lt;of&gt; things" in written and "Pictures <of>" not in written
    row = re.search(r"<tr><td>CondConv less static</td>(.*?)</tr>", written)[1]
    assert re.findall(r"<td>(.*?)</td>", row) == ["+0.50", "+0.50 to +0.50", "5", "ahead; aim of 0.3 met"]


def test_light_dark_and_narrow(written):
    assert "prefers-color-scheme: dark" in written and "width=device-width" in written


def test_in_a_terminal(answers):
    lines = text(answers).splitlines()
    assert "Is CondConv ahead of a static network?" in lines
    (line,) = [line for line in lines if "CondConv less static, widened" in line]
    assert line.split()[4:] == "+0.50 +0.50 to +0.50 5 ahead; aim of 0.3 met".split()
    assert max(map(len, lines)) <= 100


def test_a_question_without_any_run_is_left_out(tmp_path, answers):
    (question,) = questions(RECIPE, SHAPE, CLASSES, ["modes"])
    nothing = answer(RECIPE, question, tmp_path, SHAPE)
    assert page(RECIPE, "x", [*answers[:1], nothing]).count("<section id=") == 1
    assert text([nothing]) == ""
