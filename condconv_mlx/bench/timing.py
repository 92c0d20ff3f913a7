"""Times of several works, taken in turns, so that whatever else slows the machine slows all of them."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Work = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """Rounds go on for `seconds`; there are at least `least` and at most `most`, after `warm` that do not count."""

    seconds: float = 1.0
    least: int = 5
    most: int = 51
    warm: int = 2


def median_times(works: Mapping[str, Work], effort: Effort) -> dict[str, float]:
    """The median milliseconds of each work, by its name; a work returns when it is done.

    A round runs every work once, in an order of its own: idle threads of one library spin for a while, and always
    following another's work would cost whoever does.
    """
    order, shuffle = list(works), random.Random(0).shuffle
    for _ in range(effort.warm):
        for work in works.values():
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + effort.seconds
    for done in range(effort.most):
        if done >= effort.least and time.perf_counter() > end:
            break
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            works[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(taken) for name, taken in times.items()}
