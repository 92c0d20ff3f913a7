"""Student's t against printed tables, and means with intervals against hand reckoning."""

import math

import numpy as np
import pytest

from condconv_mlx.study.statistics import Estimate, estimate, t_probability, t_quantile

# NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, and further digits from the exact forms for 1 and 2.
TABLE = {
    0.90: {1: 3.078, 2: 1.886, 3: 1.638, 4: 1.533, 5: 1.476, 10: 1.372, 30: 1.310, 100: 1.290},
    0.95: {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 10: 1.812, 30: 1.697, 100: 1.660},
    0.975: {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 100: 1.984},
    0.99: {1: 31.821, 2: 6.965, 3: 4.541, 4: 3.747, 5: 3.365, 10: 2.764, 30: 2.457, 100: 2.364},
    0.995: {1: 63.657, 2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032, 10: 3.169, 30: 2.750, 100: 2.626},
}


@pytest.mark.parametrize("probability", TABLE)
def test_quantiles_are_those_of_the_table(probability):
    for freedom, wanted in TABLE[probability].items():
        assert t_quantile(probability, freedom) == pytest.approx(wanted, abs=0.00051), freedom


@pytest.mark.parametrize("probability", [0.5, 0.6, 0.9, 0.975, 0.9995])
def test_quantiles_have_closed_forms_for_one_and_two(probability):
    assert t_quantile(probability, 1) == pytest.approx(math.tan(math.pi * (probability - 0.5)), rel=1e-9, abs=1e-12)
    wanted = (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    assert t_quantile(probability, 2) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12])
def test_probabilities_are_the_integral_of_the_density(freedom):
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    for t in (0.3, 1.0, 2.5):
        x = np.linspace(0, t, 20_001)
        density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
        assert t_probability(t, freedom) == pytest.approx(0.5 + np.trapezoid(density, x), abs=1e-8)


def test_many_degrees_of_freedom_are_almost_normal():
    assert t_quantile(0.975, 100_000) == pytest.approx(1.959964, abs=5e-5)


@pytest.mark.parametrize(("probability", "freedom"), [(0.4, 3), (1.0, 3), (0.975, 0)])
def test_what_has_no_quantile(probability, freedom):
    with pytest.raises(ValueError, match="must be"):
        t_quantile(probability, freedom)


def test_an_estimate_by_hand():
    found = estimate([0.2, 0.5, 0.4, 0.9, 0.5])
    # Deviations -0.3, 0, -0.1, 0.4, 0: squares 0.26, by 4 is 0.065; t for 4 degrees of freedom is 2.77645.
    half = 2.77645 * math.sqrt(0.065) / math.sqrt(5)
    assert (found.n, found.mean, found.deviation) == (5, pytest.approx(0.5), pytest.approx(math.sqrt(0.065)))
    assert (found.low, found.high) == (pytest.approx(0.5 - half, abs=1e-5), pytest.approx(0.5 + half, abs=1e-5))


def test_one_alone_has_no_interval_and_none_at_all_no_mean():
    assert estimate([0.25]) == Estimate(1, 0.25)
    with pytest.raises(ValueError, match="nothing"):
        estimate([])


def test_alike_values_leave_no_doubt():
    found = estimate([2.0, 2.0, 2.0])
    assert found.low == found.mean == found.high == 2.0


def test_intervals_of_95_percent_hold_the_truth_19_times_of_20():
    rng = np.random.default_rng(0)
    found = [estimate(list(rng.normal(1.0, 2.0, 3))) for _ in range(4000)]
    share = np.mean([each.low <= 1.0 <= each.high for each in found])
    # The share has a deviation of 0.0034.
    assert abs(share - 0.95) < 0.014
