"""`condconv_mlx.tuning`: what is fastest here, among what is right here."""

import statistics
import time

import mlx.core as mx
import pytest

from condconv_mlx import create_model, tuning
from condconv_mlx.functional import STRATEGIES, gradients, tuned
from condconv_mlx.functional.defaults import Case, candidates
from condconv_mlx.functional.geometry import Geometry
from condconv_mlx.tuning import find_cases, tune

PLAIN = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
CASE = Case((2, 6, 5, 4), (6, 3, 3, 4), 3, PLAIN, "float32", False)
DEPTHWISE = Case((2, 9, 8, 6), (6, 3, 3, 1), 3, Geometry((2, 2), ((0, 1), (1, 1)), (1, 1), 6), "float32", False)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few rounds, and runs by themselves."""
    monkeypatch.setattr(tuning, "ROUNDS", (3, 3))
    monkeypatch.setattr(tuning, "MOST_AT_ONCE", 1)


def measure(case: Case = CASE) -> list[tuning.Tuned]:
    return list(tune([case], seconds=0))


def test_the_cases_of_a_model_are_found_without_computing():
    model = create_model("condconv_small", num_experts=3, width=4)
    model.blocks[1].conv2.strategy = "loop"
    cases = find_cases(model, mx.zeros((5, 16, 16, 3)))
    assert {what.kernel: count for what, count in cases.items()} == {
        (18, 3, 3, 6): 1,
        (24, 3, 3, 18): 1,
        (24, 3, 3, 24): 1,
        (10, 1, 1, 24): 1,
    }
    assert all(what.x[0] == 5 and what.experts == 3 and not what.training for what in cases)
    assert model.training
    assert find_cases(create_model("condconv_small", num_experts=None, width=4), mx.zeros((1, 16, 16, 3))) == {}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("experts", [3, None])
@pytest.mark.parametrize("case", [CASE, DEPTHWISE])
def test_each_strategy_is_measured_or_left_out_with_a_reason(case, experts, dtype):
    results = measure(case._replace(experts=experts, dtype=dtype))
    assert [result.case.training for result in results] == [False, True]
    for result in results:
        assert {*result.milliseconds, *result.left_out} == set(candidates(result.case))
        assert result.default in result.milliseconds
        assert min(result.milliseconds.values()) > 0
        assert result.measurement == (result.chosen, result.milliseconds)
        assert not [reason for reason in result.left_out.values() if reason.startswith("wrong")]
        for name in ("shift", "taps"):
            assert result.left_out.get(name, "").startswith("cannot") == (case is not DEPTHWISE)


@pytest.fixture
def patient(monkeypatch):
    """Nothing is left out for being slow, which on a busy machine anything may be once."""
    monkeypatch.setattr(tuning, "HOPELESS", float("inf"))


@pytest.mark.usefixtures("patient")
def test_a_wrong_result_is_never_kept(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "cheat", lambda x, kernels, geometry: mx.zeros((2, 6, 5, 6)))
    for result in measure():
        assert result.left_out["cheat"].startswith("wrong")
        assert result.chosen != "cheat"


def test_a_result_of_another_shape_is_never_kept(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "cheat", lambda x, kernels, geometry: STRATEGIES["loop"](x, kernels, PLAIN)[:1])
    for result in measure():
        assert result.left_out["cheat"].startswith(("wrong", "cannot"))


@pytest.mark.usefixtures("patient")
def test_a_wrong_gradient_is_never_kept(monkeypatch):
    right = STRATEGIES["unfold"]
    monkeypatch.setitem(STRATEGIES, "cheat", lambda x, kernels, geometry: right(mx.stop_gradient(x), kernels, geometry))
    inference, training = measure()
    assert inference.left_out["cheat"].startswith("wrong")
    assert "cheat" in training.milliseconds  # our own gradients, which are right


def test_with_wrong_gradients_of_our_own_nothing_is_kept_for_training(monkeypatch):
    right = gradients.kernel_gradient
    monkeypatch.setattr(gradients, "kernel_gradient", lambda *arguments: 1.2 * right(*arguments))
    inference, training = measure(CASE._replace(experts=None))
    assert inference.measurement
    assert training.measurement is None
    assert not training.milliseconds


def test_what_a_device_cannot_run_is_left_out(monkeypatch):
    def fails(*_):
        raise RuntimeError("no kernel\n of that name")

    monkeypatch.setitem(STRATEGIES, "new", fails)
    for result in measure():
        assert result.left_out["new"] == "cannot: no kernel of that name"
        assert result.measurement


def refuse(*_):
    raise ValueError("not for this one")


@pytest.mark.parametrize("bad", [lambda x, kernels, geometry: mx.zeros((2, 6, 5, 6)), refuse])
def test_a_default_that_is_wrong_or_fails_gives_way(monkeypatch, bad):
    monkeypatch.setitem(STRATEGIES, "unfold", bad)
    for result in measure(CASE._replace(experts=None)):
        assert result.default == "unfold"
        assert result.measurement and result.chosen in ("rows", "loop", "fold")


def slowed(strategy, seconds):
    def slow(*arguments):
        time.sleep(seconds)
        return strategy(*arguments)

    return slow


def test_a_faster_strategy_is_chosen_and_a_hopeless_one_is_not_timed(monkeypatch):
    for name in ("unfold", "rows", "fold"):
        monkeypatch.setitem(STRATEGIES, name, slowed(STRATEGIES["loop"], 0.02))
    monkeypatch.setitem(STRATEGIES, "hopeless", slowed(STRATEGIES["loop"], 0.3))
    for result in measure(CASE._replace(experts=None)):
        assert (result.default, result.chosen) == ("unfold", "loop")
        assert result.milliseconds["loop"] < result.milliseconds["unfold"]
        assert result.left_out["hopeless"].startswith("slow")


def test_a_large_batch_is_not_computed_where_a_part_of_it_is_hopeless(monkeypatch):
    sizes = []

    def hopeless(x, kernels, geometry):
        sizes.append(len(x))
        time.sleep(0.4)
        return STRATEGIES["loop"](x, kernels, geometry)

    for name in ("unfold", "rows"):
        monkeypatch.setitem(STRATEGIES, name, slowed(STRATEGIES[name], 0.02))
    monkeypatch.setitem(STRATEGIES, "hopeless", hopeless)
    monkeypatch.setitem(STRATEGIES, "loop", slowed(STRATEGIES["loop"], 0.02))
    monkeypatch.setitem(STRATEGIES, "fold", slowed(STRATEGIES["fold"], 0.02))
    for result in measure(CASE._replace(x=(32, 6, 5, 4), experts=None)):
        assert result.left_out["hopeless"].startswith("slow")
    assert set(sizes) == {2}


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"usual": [1.0] * 8, "other": [0.5] * 8}, "other"),
        ({"usual": [1.0] * 8, "other": [0.97] * 8}, "usual"),
        ({"usual": [1.0] * 8, "other": [2.0] * 8}, "usual"),
        # Faster by far, but in half of the rounds alone.
        ({"usual": [1.0] * 8, "other": [0.1, 0.99] * 4}, "usual"),
        # The machine slowed down meanwhile, for both.
        ({"usual": [1, 1, 1, 1, 9, 9, 9, 9], "other": [0.8, 0.8, 0.8, 0.8, 7, 7, 7, 7]}, "other"),
        ({"other": [1.0] * 8, "third": [2.0] * 8}, "other"),
        ({}, "usual"),
    ],
)
def test_the_default_stays_unless_it_is_clearly_beaten(times, chosen):
    assert tuning._fastest(times, "usual") == chosen


def test_the_median_is_reported(monkeypatch):
    taken = {"unfold": [0.001, 0.003, 0.1], "loop": [0.001, 0.002, 0.0021]}
    monkeypatch.setattr(tuning, "_alternate", lambda runs, seconds: taken)
    result = measure(CASE._replace(experts=None))[0]
    assert result.milliseconds == {name: 1000 * statistics.median(times) for name, times in taken.items()}


def test_what_is_measured_is_what_a_model_then_uses(tuning_file, monkeypatch):
    for name in ("unfold", "rows", "fold"):
        monkeypatch.setitem(STRATEGIES, name, slowed(STRATEGIES["loop"], 0.01))
    model = create_model("condconv_small", num_experts=3, width=4)
    x = mx.random.normal((2, 16, 16, 3))
    cases = find_cases(model, x)
    tuned.keep({result.case: result.measurement for result in tune(cases, seconds=0) if result.measurement})

    unfold = STRATEGIES["unfold"]
    # Static layers, whose kernel serves all examples, have it too.
    monkeypatch.setitem(STRATEGIES, "unfold", lambda *a: unfold(*a) if len(a[1]) == 1 else refuse())
    mx.eval(model.eval()(x))
    with pytest.raises(ValueError, match="not for this one"):
        mx.eval(model(mx.concatenate([x, x])))  # another batch, which was not measured
