"""Changes to the routing of a picture, as short texts that fit into an address.

Of a router, `uniform`; `one3`, the third expert alone; `shuffled7`, by the seed 7; `usual`, the mean of many pictures;
`of-ID`, that of another picture; or `w_0.5_-_0`, weights by hand, where - is the router's own. Of a network, those of
its routers by their index, as `0.uniform~2.w_0.5_-_0`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from condconv_mlx.explain import one_hot, shuffled, uniform

FORM = re.compile(
    r"uniform|usual|one(?P<expert>\d{1,4})|shuffled(?P<seed>\d{1,9})|of-(?P<id>[\w-]+)|w(?P<list>[_\d.-]+)"
)


def parse(text: str | None, experts: Sequence[int]) -> dict[int, str]:
    """The changes by the index of the router. What makes no sense for routers with so many experts is left out."""
    changes = {}
    for part in (text or "").split("~"):
        index, _, change = part.partition(".")
        if index.isdecimal() and int(index) < len(experts) and _sensible(change, experts[int(index)]):
            changes[int(index)] = change
    return changes


def join(changes: Mapping[int, str]) -> str | None:
    """As `parse` reads it; None for no changes."""
    return "~".join(f"{index}.{change}" for index, change in sorted(changes.items())) or None


def by_hand(weights: np.ndarray) -> str:
    """Weights (E,) as a change; NaN is the router's own. Nothing but those is no change: ""."""
    if np.isnan(weights).all():
        return ""
    return "w_" + "_".join("-" if math.isnan(weight) else f"{round(float(weight), 4):g}" for weight in weights)


def resolve(
    change: str, own: np.ndarray, usual: Callable[[], np.ndarray], of: Callable[[str], np.ndarray | None]
) -> np.ndarray:
    """The override (E,) that a change stands for, see `condconv_mlx.explain.interventions`.

    Args:
        change: of this router, as `parse` gives it; "" is none.
        own: its weights for this picture, (E,).
        usual: its mean weights over many pictures, (E,).
        of: its weights for the picture of that id, (E,), or None if there is none.
    """
    found = FORM.fullmatch(change)
    if not found:
        return np.full(own.shape, np.nan, np.float32)
    if change == "uniform":
        return uniform(own)
    if change == "usual":
        return usual().astype(np.float32)
    if found["expert"]:
        return one_hot(own, int(found["expert"]) - 1)
    if found["seed"]:
        return shuffled(own, int(found["seed"]))
    if found["id"]:
        other = of(found["id"])
        return np.full(own.shape, np.nan, np.float32) if other is None else other
    return np.array(_listed(found["list"]), np.float32)


def kind(change: str) -> str:
    """Which of them a change is: "own", "uniform", "one", "shuffled", "usual", "of" or "hand"."""
    found = FORM.fullmatch(change)
    if not found:
        return "own"
    named = {"expert": "one", "seed": "shuffled", "id": "of", "list": "hand"}
    return named[found.lastgroup] if found.lastgroup else change


def detail(change: str) -> str:
    """What a change says besides its kind: the number of the expert, the seed, the id of the picture; else ""."""
    found = FORM.fullmatch(change)
    return "" if not found or found["list"] or not found.lastgroup else found[found.lastgroup]


def _sensible(change: str, experts: int) -> bool:
    found = FORM.fullmatch(change)
    if not found:
        return False
    if found["expert"]:
        return 1 <= int(found["expert"]) <= experts
    if found["list"]:
        weights = _listed(found["list"])
        return len(weights) == experts and all(math.isnan(weight) or 0 <= weight <= 1 for weight in weights)
    return True


def _listed(text: str) -> list[float]:
    """`_0.5_-_0` as numbers, NaN for -; none at all if one is no number."""
    try:
        return [math.nan if part == "-" else float(part) for part in text.removeprefix("_").split("_")]
    except ValueError:
        return []
