"""How long forward passes take."""

import time
from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn
import numpy as np


def passes(model: nn.Module, x: mx.array | np.ndarray) -> Iterator[float]:
    """Milliseconds of one forward pass of x (N, ...) after the other, without end."""
    x = mx.array(x)
    mx.eval(x)
    while True:
        start = time.perf_counter()
        mx.eval(model(x))
        yield 1e3 * (time.perf_counter() - start)


def in_turns(first: Iterator[float], second: Iterator[float]) -> Iterator[tuple[float, float]]:
    """A time of each in every round, so that whatever else slows the machine slows both.

    Each has a pass before it that does not count, since the other one's data are in the caches, and goes first in every
    other round.
    """
    while True:
        for forward in (True, False):
            turns = (first, second) if forward else (second, first)
            times = []
            for turn in turns:
                next(turn)
                times.append(next(turn))
            yield (times[0], times[1]) if forward else (times[1], times[0])
