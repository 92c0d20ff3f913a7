"""The routing weights of a forward pass, and the same pass with other weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from condconv_mlx.layers import Router, observer


@dataclass
class RouterTrace:
    """One router: its name in the model, the names of the layers it feeds, and its weights (N, E)."""

    name: str
    layers: list[str]
    weights: np.ndarray


@dataclass
class Trace:
    """The model's output, and its routers in the order in which they ran."""

    output: np.ndarray
    routers: list[RouterTrace] = field(default_factory=list)

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of a classifier's output: (N, classes) to (N, classes)."""
        exponentials = np.exp(self.output - self.output.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def trace(model: nn.Module, x: mx.array | np.ndarray, override: Mapping[str, np.ndarray] | None = None) -> Trace:
    """Run a model and record every router in it, also those of a model of your own.

    Args:
        model: any module that holds `Router`s; run in evaluation mode, and put back.
        x: its input (N, ...).
        override: by the name of a router, the weights to use instead of its own: (E,) for all examples, or (N, E).
            Where one is NaN, the router's own weight stays, so that examples of one batch can differ in what is
            changed. The weights reported are those used.

    Returns:
        Output (N, ...), and for every router its name, the layers it feeds and its weights (N, E), as float32 NumPy.

    Raises:
        ValueError: if `override` names no router of the model, or its weights have another shape.
    """
    names = {id(module): name for name, module in model.named_modules()}
    routers = {name for name, module in model.named_modules() if isinstance(module, Router)}
    override = dict(override or {})
    if unknown := sorted(override.keys() - routers):
        raise ValueError(f"[trace] no router is called {unknown[0]!r}; the model has {sorted(routers)}.")

    recorder = _Recorder(names, override)
    was_training = model.training
    token = observer.set(recorder)
    try:
        model.eval()
        output = model(mx.array(x))
    finally:
        observer.reset(token)
        model.train(was_training)
    mx.eval(output, [weights for _, weights, _ in recorder.seen])
    return Trace(
        _numpy(output), [RouterTrace(name, layers, _numpy(weights)) for name, weights, layers in recorder.seen]
    )


class _Recorder:
    """An `Observer` that tells which layer used which router's weights by the identity of the array."""

    def __init__(self, names: dict[int, str], override: dict[str, np.ndarray]):
        self.names = names
        self.override = override
        self.seen: list[tuple[str, mx.array, list[str]]] = []

    def routed(self, router: Router, routing_weights: mx.array) -> mx.array:
        name = self.names.get(id(router), type(router).__name__)
        if name in self.override:
            given = mx.array(self.override[name]).astype(routing_weights.dtype)
            if given.shape not in (routing_weights.shape, routing_weights.shape[1:]):
                raise ValueError(
                    f"[trace] override of {name!r} must be (E,) = {routing_weights.shape[1:]} or (N, E) = "
                    f"{routing_weights.shape}, got shape {given.shape}."
                )
            routing_weights = mx.where(mx.isnan(given), routing_weights, given)
        self.seen.append((name, routing_weights, []))
        return routing_weights

    def used(self, layer: nn.Module, routing_weights: mx.array) -> None:
        for _, weights, layers in self.seen:
            if weights is routing_weights:
                layers.append(self.names.get(id(layer), type(layer).__name__))


def _numpy(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32))
