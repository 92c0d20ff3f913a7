"""From results to means, paired differences and verdicts."""

import pytest
from study_material import CLASSES, RECIPE, SHAPE, keep, result

from condconv_mlx.study.plan import questions, runs
from condconv_mlx.study.results import answer
from condconv_mlx.study.statistics import estimate


def static_question(folder, accuracies, **changed):
    """The answer where these arms have these accuracies, in per cent by seed; None is a run still to be done."""
    (question,) = questions(RECIPE, SHAPE, CLASSES, ["static"])
    for arm, planned in runs(RECIPE, question, SHAPE).items():
        for run, accuracy in zip(planned, accuracies.get(arm, ()), strict=False):
            if accuracy is not None:
                keep(folder, run, result(run, accuracy / 100, **changed))
    return answer(RECIPE, question, folder, SHAPE)


def test_differences_are_taken_seed_by_seed(tmp_path):
    found = static_question(tmp_path, {"static": [80, 85, 90, 84, 83], "CondConv": [80.5, 85.6, 90.4, 84.5, 83.5]})
    (comparison,) = found.comparisons
    assert (comparison.arm, comparison.other) == ("CondConv", "static")
    assert comparison.differences == pytest.approx({0: 0.5, 1: 0.6, 2: 0.4, 3: 0.5, 4: 0.5})
    # The seeds differ by points, the differences by tenths: t 2.77645, deviation sqrt(0.02 / 4).
    half = 2.77645 * (0.02 / 4) ** 0.5 / 5**0.5
    assert comparison.estimate.mean == pytest.approx(0.5)
    assert comparison.estimate.high - comparison.estimate.mean == pytest.approx(half, rel=1e-4)
    assert comparison.verdict == "ahead" and comparison.reaches_target
    assert found.missing == 5


def test_only_seeds_that_both_have_are_paired(tmp_path):
    found = static_question(tmp_path, {"static": [80, None, 82], "CondConv": [81, 99, None, 70]})
    (comparison,) = found.comparisons
    assert comparison.differences == pytest.approx({0: 1.0})
    assert comparison.verdict == "open" and not comparison.reaches_target
    assert {arm.name: sorted(arm.test_accuracy) for arm in found.arms} == {"static": [0, 2], "CondConv": [0, 1, 3]}
    assert found.missing == 10


@pytest.mark.parametrize(
    ("differences", "verdict", "reaches"),
    [
        ([0.2, 0.2, 0.2, 0.2, 0.25], "ahead", False),
        ([-0.4, -0.5, -0.4, -0.5, -0.4], "behind", False),
        ([2.0, -1.0, 2.0, -1.0, 2.0], "open", False),
        ([0.3, 0.31, 0.32, 0.33, 0.34], "ahead", True),
    ],
)
def test_verdicts(tmp_path, differences, verdict, reaches):
    found = static_question(tmp_path, {"static, widened": [80] * 5, "CondConv": [80 + each for each in differences]})
    (comparison,) = found.comparisons
    assert (comparison.verdict, comparison.reaches_target) == (verdict, reaches)
    assert comparison.other == "static, widened"
    (row,) = found.as_json()["comparisons"]
    assert (row["verdict"], row["reaches_target"]) == (verdict, reaches)


def test_an_arm_in_numbers(tmp_path):
    (static, conditional) = static_question(tmp_path, {"static": [80, 81], "CondConv": [82, 84]}).arms
    assert static.accuracy == estimate(list(static.test_accuracy.values())) and static.accuracy.mean == pytest.approx(
        80.5
    )
    assert (static.train_accuracy, static.first_loss) == (87.5, 1.5)
    assert static.images_per_second == pytest.approx(20_000 * 6 / 60)
    assert static.routing == {}
    assert conditional.routing["classifier.router"] == {"entropy": 0.8, "saturated": 0.25, "deviation": 0.125}
    assert (conditional.multiply_adds, conditional.parameters) == (2_000_000, 30_000)


def test_on_a_gpu_the_clock_counts(tmp_path):
    found = static_question(tmp_path, {"static": [80]}, device="Device(gpu, 0)")
    assert found.arms[0].images_per_second == pytest.approx(20_000 * 6 / 120)


def test_nothing_done_is_an_empty_answer(tmp_path):
    found = static_question(tmp_path, {})
    assert (found.arms, found.comparisons, found.missing) == ([], [], 15)
