"""Which runs the questions take."""

import json
from dataclasses import asdict, replace

import pytest
from study_material import CLASSES, RECIPE, SHAPE, planned

from condconv_mlx import create_model
from condconv_mlx.complexity import count
from condconv_mlx.study import QUESTIONS
from condconv_mlx.study.plan import COUNTS, Run, questions, runs, widened


def asked(name):
    (question,) = questions(RECIPE, SHAPE, CLASSES, [name])
    return question, runs(RECIPE, question, SHAPE)


def test_every_question_compares_arms_that_it_has():
    every = questions(RECIPE, SHAPE, CLASSES)
    assert [question.name for question in every] == list(QUESTIONS)
    for question in every:
        names = [arm.name for arm in question.arms]
        assert len(set(names)) == len(names)
        assert question.comparisons and all({arm, other} <= set(names) for arm, other in question.comparisons)


def test_arms_of_a_question_differ_and_all_else_is_shared():
    for question in questions(RECIPE, SHAPE, CLASSES):
        first = [arms[0] for arms in runs(RECIPE, question, SHAPE).values()]
        assert len({run.key for run in first}) == len(first)
        assert len({(run.data, run.images, run.training["learning_rate"], run.training["shift"]) for run in first}) == 1
        assert all(run.training["holdout"] == 0 and run.model["in_channels"] == 1 for run in first)


def test_seeds():
    _, arms = asked("static")
    assert [run.training["seed"] for run in arms["CondConv"]] == [0, 1, 2, 3, 4]
    question, arms = asked("experts")
    assert len(arms["8 experts"]) == 3
    assert len(runs(RECIPE, question, SHAPE, seeds=7)["8 experts"]) == 7


def test_runs_that_questions_share_are_made_once():
    every = planned(list(QUESTIONS))
    by_question = [len(planned([name])) for name in QUESTIONS]
    assert len(every) < sum(by_question)
    shared = {
        arm: runs[0].key for name in ("static", "longer", "regularisation") for arm, runs in asked(name)[1].items()
    }
    assert asked("experts")[1]["8 experts"][0].key == shared["CondConv"]
    assert asked("start")[1]["from the second block"][0].key == shared["CondConv"]
    assert asked("routing")[1]["sigmoid"][0].key == asked("routers")[1]["one a block"][0].key == shared["CondConv"]


def test_a_key_changes_with_all_that_decides_a_result_and_with_nothing_else():
    (first, *_) = planned(["static"])
    same = Run(**json.loads(json.dumps(asdict(first), sort_keys=True)))
    assert same.key == first.key and first.key.startswith("static-seed0-")
    for changed in (
        replace(first, data="mnist"),
        replace(first, images=1),
        replace(first, model=first.model | {"width": 9}),
        replace(first, training=first.training | {"epochs": 7}),
    ):
        assert changed.key != first.key


def test_every_network_can_be_built():
    for model in {json.dumps(run.model) for run in planned(list(QUESTIONS), seeds=1)}:
        create_model("condconv_small", **json.loads(model))


def test_experts_are_counted():
    _, arms = asked("experts")
    assert [runs[0].model["num_experts"] for runs in arms.values()] == [None, *COUNTS]


@pytest.mark.parametrize(
    ("width", "shape", "classes"), [(8, (28, 28, 1), 10), (16, (32, 32, 3), 10), (5, (64, 64, 3), 100)]
)
def test_the_widened_network_is_the_next_one_with_as_many_multiply_adds(width, shape, classes):
    def madds(**options):
        model = create_model("condconv_small", width=width, num_classes=classes, in_channels=shape[2], **options)
        return count(model, shape).madds

    channels = widened(width, 8, shape, classes)
    wanted, found = madds(num_experts=8), madds(num_experts=None, channels=channels)
    assert wanted <= found < 1.05 * wanted
    assert channels > [1.5 * width, 4.5 * width, 6 * width]
    # A channel less in each block would be too few.
    assert madds(num_experts=None, channels=[c - 1 for c in channels]) < wanted


def test_an_unknown_question():
    with pytest.raises(ValueError, match='got "speed"'):
        questions(RECIPE, SHAPE, CLASSES, ["static", "speed"])
