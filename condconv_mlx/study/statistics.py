"""Means over seeds, with confidence intervals by Student's t."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """What a few measurements say of the mean of all that could have been made.

    Attributes:
        n: how many there are.
        mean: theirs.
        deviation: their standard deviation, with n - 1; None for one alone.
        low, high: the interval of confidence CONFIDENCE for the mean; None for one alone.
    """

    n: int
    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and interval of measurements that are independent of each other. `ValueError` if there are none.

    For the difference of two sides that share their seeds, give the differences seed by seed: what a seed does to both
    then cancels.
    """
    n = len(values)
    if n == 0:
        raise ValueError("there is nothing to take the mean of")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(n, mean)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(0.5 + CONFIDENCE / 2, n - 1) * deviation / math.sqrt(n)
    return Estimate(n, mean, deviation, mean - half, mean + half)


def t_quantile(probability: float, freedom: int) -> float:
    """The t below which Student's distribution with `freedom` degrees of freedom has this probability, in [0.5, 1)."""
    if not 0.5 <= probability < 1:
        raise ValueError(f"probability must be in [0.5, 1), got {probability}")
    if freedom < 1:
        raise ValueError(f"freedom must be at least 1, got {freedom}")
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        low, high = high, 2 * high
    # To the last bit: halving ends when no number lies between.
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if t_probability(middle, freedom) < probability else (low, middle)
    return high


def t_probability(t: float, freedom: int) -> float:
    """The probability of a value below t, in Student's distribution with a whole number of degrees of freedom.

    A finite sum in θ = arctan(t / √freedom). Source: Abramowitz and Stegun, Handbook, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    # 1 + (1/2) cos² + (1·3)/(2·4) cos⁴ …, or for odd numbers cos + (2/3) cos³ + (2·4)/(3·5) cos⁵ …
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(odd + 2, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + within / 2
