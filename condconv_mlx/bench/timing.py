"""Times of several works, taken in turns, so that whatever else slows the machine slows all of them."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

Work = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: rounds go on for as long as this,
        least, most: but there are at least and at most so many.
        turn: seconds for which a work is timed when it is its turn, once at least.
        warm: seconds for which it runs before that, once at least. Idle threads of one library spin for a while
            (OpenBLAS's for 27 ms at 2.5 GHz) and slow the other's, whose own are slow to wake.
    """

    seconds: float = 1.0
    least: int = 5
    most: int = 50
    turn: float = 0.03
    warm: float = 0.03


def median_times(
    works: Mapping[str, Work], effort: Effort, before: Callable[[str], object] = lambda name: None
) -> dict[str, float]:
    """The median milliseconds of each work, by its name; a work returns when it is done."""
    *_, times = in_turns(works, effort, before)
    return {name: median(taken) for name, taken in times.items()}


def in_turns(
    works: Mapping[str, Work], effort: Effort, before: Callable[[str], object] = lambda name: None
) -> Iterator[dict[str, list[float]]]:
    """The milliseconds of each run of each work so far, the same lists at every step: twice in each turn of each work.

    In a round each work has one turn, in an order that changes from round to round. `before` is called with its name
    first, and not timed.
    """
    order, shuffle = list(works), random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + effort.seconds
    for done in range(effort.most):
        if done >= effort.least and time.perf_counter() > end:
            break
        shuffle(order)
        for name in order:
            before(name)
            _repeat(works[name], effort.warm)
            yield times
            times[name] += _repeat(works[name], effort.turn)
            yield times


def _repeat(work: Work, seconds: float) -> list[float]:
    """Milliseconds of each run, one at least."""
    times: list[float] = []
    while sum(times) < 1e3 * seconds or not times:
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return times
