"""What training asks of the routers: even use of the experts, and a temperature that falls."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.functional.defaults import OUTPUTS
from condconv_mlx.layers import CondConv1d, CondConv2d, Router, observer


class _Recorder:
    """An `Observer` that keeps the routing weights of a forward pass."""

    def __init__(self) -> None:
        self.weights: list[mx.array] = []

    def routed(self, router: Router, routing_weights: mx.array) -> mx.array:
        self.weights.append(routing_weights)
        return routing_weights

    def used(self, layer: nn.Module, routing_weights: mx.array) -> None:
        pass


@contextmanager
def recorded_routing() -> Iterator[list[mx.array]]:
    """The routing weights (N, E) of every router that runs in this block, in order."""
    recorder = _Recorder()
    token = observer.set(recorder)
    try:
        yield recorder.weights
    finally:
        observer.reset(token)


def imbalance(routing: list[mx.array]) -> mx.array:
    """How unevenly routers use their experts: the squared coefficient of variation of an expert's mean weight over a
    batch, mean over routers. 0 if all experts are used alike, E - 1 if one alone is.

    Source: Shazeer et al., arXiv 1701.06538, section 4 (the importance loss).

    Args:
        routing: of each router, its weights (N, E).
    """
    if not routing:
        return mx.array(0.0)
    means = [weights.astype(mx.float32).mean(axis=0) for weights in routing]
    return mx.stack([mean.var() / (mean.mean() ** 2 + 1e-10) for mean in means]).mean()


@contextmanager
def tempered(model: nn.Module, temperature: mx.array | float) -> Iterator[None]:
    """For the time of the block, what softmax routers divide their logits by. An array can be an input of a compiled
    function."""
    routers = [module for module in model.modules() if isinstance(module, Router) and module.activation == "softmax"]
    before = [router.temperature for router in routers]
    # nn.Module would keep an array as a parameter, so go around it.
    for router in routers:
        object.__setattr__(router, "temperature", temperature)
    try:
        yield
    finally:
        for router, old in zip(routers, before, strict=True):
            object.__setattr__(router, "temperature", old)


@contextmanager
def mixing(model: nn.Module, what: str) -> Iterator[None]:
    """For the time of the block, CondConv layers mix "kernels" example by example, or "outputs" of all experts; "auto"
    leaves them as they are. The paper trains in both ways, and their results are the same up to rounding."""
    layers = [module for module in model.modules() if isinstance(module, (CondConv1d, CondConv2d))]
    before = [layer.strategy for layer in layers]
    for layer in layers:
        if what == "kernels":
            layer.strategy = "shift" if layer.groups == layer.weight.shape[1] > 1 else "unfold"
        elif what == "outputs":
            layer.strategy = OUTPUTS
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.strategy = old
