"""Two models and two images side by side, against sums over all pairs made the long way."""

from itertools import combinations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from condconv_mlx.explain import (
    agreement,
    in_order_of,
    in_turns,
    mean_routing_distance,
    passes,
    routing_distance,
)


def test_agreement() -> None:
    first = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0, 0, 1]], np.float32)
    second = np.array([[0.5, 0.4, 0.1], [0.5, 0.2, 0.3], [0, 0, 1]], np.float32)
    found = agreement(first, second)
    assert found.same.tolist() == [True, False, True]
    # The most that any set of classes can differ in.
    sets = [np.array(chosen) for size in range(1, 4) for chosen in combinations(range(3), size)]
    longest = [max(abs((a - b)[one].sum()) for one in sets) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found.apart, longest, atol=1e-6)
    with pytest.raises(ValueError, match=r"\(3, 3\) and \(3, 2\)"):
        agreement(first, second[:, :2])


def test_classes_in_another_order() -> None:
    probabilities = np.array([[0.1, 0.2, 0.7]])
    labels = ("cat", "dog", "frog")
    np.testing.assert_array_equal(in_order_of(labels, ("frog", "cat", "dog"), probabilities), [[0.2, 0.7, 0.1]])
    assert in_order_of(labels, labels, probabilities) is probabilities
    assert in_order_of(labels, ("cat", "dog", "ship"), probabilities) is None
    assert in_order_of(labels[:2], labels, probabilities) is None
    # Two of one name cannot be told apart in another order.
    assert in_order_of(("crane", "crane", "cat"), ("cat", "crane", "crane"), probabilities) is None
    assert in_order_of(("crane", "crane", "cat"), ("crane", "crane", "cat"), probabilities) is probabilities


@pytest.mark.parametrize("count", [2, 3, 8])
def test_distance_of_all_pairs(count: int) -> None:
    weights = np.random.default_rng(count).random((count, 5)).astype(np.float32)
    pairs = [routing_distance(a, b) for a, b in combinations(weights, 2)]
    np.testing.assert_allclose(mean_routing_distance(weights), np.mean(pairs), rtol=1e-6)
    assert routing_distance(np.array([0, 0.5]), np.array([1, 0.25])) == 0.625
    assert mean_routing_distance(np.repeat(weights[:1], 3, axis=0)) == pytest.approx(0, abs=1e-12)


def test_distances_of_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        routing_distance(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"\(1, 4\)"):
        mean_routing_distance(np.zeros((1, 4)))


class Counting(nn.Module):
    """Counts its calls, and takes its input as it is."""

    calls = 0

    def __call__(self, x: mx.array) -> mx.array:
        assert isinstance(x, mx.array) and x.shape == (2, 3)
        self.calls += 1
        return x * 2


def test_a_pass_for_each_time() -> None:
    model = Counting()
    times = passes(model, np.ones((2, 3), np.float32))
    taken = [next(times) for _ in range(4)]
    assert model.calls == 4 and all(time > 0 for time in taken)


def test_turns_alternate_and_every_first_pass_is_dropped() -> None:
    told: list[str] = []

    def numbered(name: str, start: int):
        for number in range(start, start + 100):
            told.append(f"{name}{number}")
            yield float(number)

    turns = in_turns(numbered("a", 0), numbered("b", 100))
    assert [next(turns) for _ in range(3)] == [(1, 101), (3, 103), (5, 105)]
    assert told == "a0 a1 b100 b101 b102 b103 a2 a3 a4 a5 b104 b105".split()
