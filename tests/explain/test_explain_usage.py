"""Numbers of a router's weights, against what follows by hand."""

import numpy as np
import pytest

from condconv_mlx.explain import expert_states, spread, usage
from condconv_mlx.explain.usage import BIMODAL


def test_all_alike():
    found = usage(np.full((5, 4), 0.5, dtype=np.float32))
    assert found.entropy == pytest.approx(1) and found.saturated == 0 and found.deviation == 0
    assert found.experts == (0.5,) * 4


def test_one_expert_an_image():
    found = usage(np.eye(4)[[0, 1, 1, 3]])
    assert found.entropy == 0 and found.saturated == 1
    assert found.experts == (0.25, 0.5, 0, 0.25)
    assert found.deviation == pytest.approx(np.mean([np.sqrt(3) / 4, 0.5, 0, np.sqrt(3) / 4]))


def test_two_of_four():
    assert usage(np.array([[0.9, 0.9, 0, 0], [0, 0.3, 0.3, 0]])).entropy == pytest.approx(0.5)
    assert usage(np.array([[0.9, 0.04, 0.96, 0.5]])).saturated == 0.5


def test_nothing_at_all_and_a_single_expert():
    assert usage(np.zeros((3, 2))).entropy == 0
    assert usage(np.ones((3, 1))).entropy == 0


@pytest.mark.parametrize("shape", [(4,), (0, 4), (3, 0), (2, 2, 2)])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"\[usage\] weights must be \(N, E\)"):
        usage(np.zeros(shape))


def test_spread_counts_each_expert() -> None:
    weights = np.array([[0.0, 1.0], [0.04, 0.97], [0.049, 0.5], [0.5, 0.5], [0.97, 0.26]])
    found = spread(weights, bins=4)
    np.testing.assert_array_equal(found.counts, [[3, 0, 1, 1], [0, 1, 2, 2]])
    np.testing.assert_allclose(found.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.low, [0.6, 0])
    np.testing.assert_allclose(found.high, [0.2, 0.4])


def sarle(values: list[float]) -> float:
    """By k-statistics, a sum at a time."""
    n, mean = len(values), sum(values) / len(values)
    s2, s3, s4 = (sum((value - mean) ** power for value in values) for power in (2, 3, 4))
    variance = s2 / (n - 1)
    k3 = n * s3 / ((n - 1) * (n - 2))
    k4 = n * (n + 1) * s4 / ((n - 1) * (n - 2) * (n - 3)) - 3 * s2**2 / ((n - 2) * (n - 3))
    skewness, excess = k3 / variance**1.5, k4 / variance**2
    return (skewness**2 + 1) / (excess + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)))


def test_two_peaks_are_bimodal_and_one_is_not() -> None:
    rng = np.random.default_rng(0)
    one, flat = rng.normal(0.5, 0.1, 400).clip(0, 1), rng.random(400)
    two = np.where(rng.random(400) < 0.5, 0.1, 0.9) + rng.normal(0, 0.03, 400)
    few = rng.random(400)
    few[5:] = few[4]
    weights = np.stack([one, flat, two, few], axis=1)
    found = spread(weights).bimodality
    np.testing.assert_allclose(found, [sarle(column.tolist()) for column in weights.T], rtol=1e-9)
    assert found[0] < 0.4 and abs(found[1] - BIMODAL) < 0.05 and found[2] > 0.85
    assert np.isnan(spread(np.full((10, 1), 0.3)).bimodality[0]) and np.isnan(spread(weights[:3]).bimodality).all()


def test_states_of_experts() -> None:
    n = np.arange(200)
    weights = np.stack(
        [
            np.where(n < 2, 0.9, 0.04),
            np.where(n < 3, 0.9, 0.04),
            np.where(n < 2, 0.1, 0.96),
            np.where(n < 3, 0.1, 0.96),
            0.5 + 0.005 * (n % 2),
            0.5 + 0.05 * (n % 2),
        ],
        axis=1,
    )
    assert expert_states(weights) == ["dead", "in use", "always on", "in use", "constant", "in use"]
    assert expert_states(np.array([[0.04, 0.5, 0.96]])) == ["dead", "constant", "always on"]


@pytest.mark.parametrize("function", [spread, expert_states])
def test_wrong_shapes_of_the_others(function) -> None:
    with pytest.raises(ValueError, match=rf"\[{function.__name__}\] weights must be \(N, E\)"):
        function(np.zeros(4))
