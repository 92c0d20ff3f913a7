"""What a network would have said, had its routers chosen otherwise.

An intervention is an override of `trace`: by the name of a router, weights (E,) to use instead of its own. Where one is
NaN, the router's own weight stays. Routers after a changed one see changed features and route anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from condconv_mlx.explain.tracing import RouterTrace, Trace, trace

BATCH = 32


def silence(num_experts: int, *experts: int) -> np.ndarray:
    """Nothing from these experts (counted from 0), the others as they are: (E,) of NaN and 0."""
    if wrong := [expert for expert in experts if not 0 <= expert < num_experts]:
        raise ValueError(f"[silence] experts must be from 0 to {num_experts - 1}, got {wrong[0]}.")
    weights = np.full(num_experts, np.nan, np.float32)
    weights[list(experts)] = 0
    return weights


def uniform(weights: np.ndarray) -> np.ndarray:
    """All experts alike, with the same sum: (..., E) to (..., E). The sum matters, as no layer divides by it."""
    return np.broadcast_to(weights.mean(axis=-1, keepdims=True), weights.shape).astype(np.float32)


def one_hot(weights: np.ndarray, expert: int) -> np.ndarray:
    """One expert alone (counted from 0), with the sum of all: (..., E) to (..., E)."""
    if not 0 <= expert < weights.shape[-1]:
        raise ValueError(f"[one_hot] expert must be from 0 to {weights.shape[-1] - 1}, got {expert}.")
    alone = np.zeros(weights.shape, np.float32)
    alone[..., expert] = weights.sum(axis=-1)
    return alone


def shuffled(weights: np.ndarray, seed: int) -> np.ndarray:
    """The same weights (E,) dealt to other experts: the same for the same seed, and never all where they were."""
    rng = np.random.default_rng(seed)
    places = np.arange(len(weights))
    order = places
    while len(weights) > 1 and np.array_equal(order, places):
        order = rng.permutation(len(weights))
    return weights[order].astype(np.float32)


def scaled(weights: np.ndarray, factor: float) -> np.ndarray:
    """All weights times a factor, up to 1, the most that a router can give: (..., E) to (..., E)."""
    if not factor >= 0:
        raise ValueError(f"[scaled] factor must be 0 or more, got {factor}.")
    return np.clip(weights * factor, 0, 1).astype(np.float32)


def mean_routing(weights: np.ndarray) -> np.ndarray:
    """What the average of many images gets, which leaves nothing of this one: (N, E) to (E,)."""
    if weights.ndim != 2 or not len(weights):
        raise ValueError(f"[mean_routing] weights must be (N, E) of at least one image, got shape {weights.shape}.")
    return weights.mean(axis=0).astype(np.float32)


def variants(
    model: nn.Module,
    x: mx.array | np.ndarray,
    overrides: Sequence[Mapping[str, np.ndarray]],
    batch: int = BATCH,
) -> Trace:
    """One image under many interventions, a row each, computed together in batches.

    Args:
        model: as for `trace`.
        x: one input (1, ...).
        overrides: V of them, each by the name of a router its weights (E,); `{}` is the network as it is.
        batch: how many to compute at once.

    Returns:
        The trace of V images: row v is what `trace(model, x, overrides[v])` gives.

    Raises:
        ValueError: as `trace`, or if x is not one image, or there are no overrides.
    """
    x = mx.array(x)
    if not x.ndim or x.shape[0] != 1 or not overrides:
        raise ValueError(f"[variants] need one input (1, ...) and an override, got {x.shape} and {len(overrides)}.")
    parts = []
    for start in range(0, len(overrides), batch):
        some = overrides[start : start + batch]
        names = {name for override in some for name in override}
        parts.append(trace(model, mx.repeat(x, len(some), axis=0), {name: _rows(name, some) for name in names}))
    return Trace(
        np.concatenate([part.output for part in parts]),
        [
            RouterTrace(router.name, router.layers, np.concatenate([part.routers[i].weights for part in parts]))
            for i, router in enumerate(parts[0].routers)
        ],
    )


def _rows(name: str, overrides: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """The weights of one router in each of V overrides, (V, E); NaN where it is left alone."""
    given = [np.asarray(override[name], np.float32) for override in overrides if name in override]
    if any(weights.ndim != 1 or weights.shape != given[0].shape for weights in given):
        shapes = sorted({weights.shape for weights in given})
        raise ValueError(f"[variants] overrides of {name!r} must all be (E,), got the shapes {shapes}.")
    alone = np.full(given[0].shape, np.nan, np.float32)
    return np.stack([np.asarray(override.get(name, alone), np.float32) for override in overrides])


@dataclass(frozen=True)
class Silencing:
    """What silencing each expert of each router does to one image.

    Attributes:
        probabilities: with no expert silenced, (classes,).
        routers: in order of execution: name, layers, and the weights (1, E) with no expert silenced.
        without: for each router, (E, classes): row e with expert e silenced.
    """

    probabilities: np.ndarray
    routers: list[RouterTrace]
    without: list[np.ndarray]

    def change(self, label: int) -> list[np.ndarray]:
        """By how much the probability of a class moves, for each router (E,)."""
        return [rows[:, label] - self.probabilities[label] for rows in self.without]


def silencing(
    model: nn.Module,
    x: mx.array | np.ndarray,
    override: Mapping[str, np.ndarray] | None = None,
    batch: int = BATCH,
) -> Silencing:
    """Silence every expert of every router in turn, one at a time, for one image x (1, ...).

    The experts of all routers are silenced in the same passes: a network of R routers with E experts takes
    R · E images' work. `override` is an intervention that is in force all the while.
    """
    base = trace(model, x, override)
    jobs = silencing_overrides(base, override)
    return silenced(base, variants(model, x, jobs, batch).probabilities if jobs else np.empty((0, 0)))


def silencing_overrides(base: Trace, override: Mapping[str, np.ndarray] | None = None) -> list[dict[str, np.ndarray]]:
    """The overrides that silence each expert of each router of a trace in turn, on top of one in force.

    Computed by `variants` a few at a time, and given to `silenced`, they are `silencing`.
    """
    override = dict(override or {})
    return [
        {**override, router.name: _without(override.get(router.name), router.weights.shape[1], expert)}
        for router in base.routers
        for expert in range(router.weights.shape[1])
    ]


def silenced(base: Trace, probabilities: np.ndarray) -> Silencing:
    """The trace of one image with no expert silenced, and a row (classes,) for each of `silencing_overrides`."""
    ends = np.cumsum([router.weights.shape[1] for router in base.routers])
    without = np.split(probabilities, ends[:-1]) if base.routers else []
    return Silencing(base.probabilities[0], base.routers, without)


def _without(weights: np.ndarray | None, experts: int, expert: int) -> np.ndarray:
    kept = np.full(experts, np.nan, np.float32) if weights is None else np.array(weights, np.float32)
    kept[expert] = 0
    return kept
