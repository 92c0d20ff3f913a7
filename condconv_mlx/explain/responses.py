"""What the filters of a layer answer to an image: those of each expert, and those of the mixture."""

import copy
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from condconv_mlx.functional import mix_experts

CONDITIONAL = ("CondConv2d", "CondConv1d", "CondLinear")


@dataclass(frozen=True)
class Responses:
    """One output channel of a layer for one image, before normalisation and activation.

    Attributes:
        experts: with the kernel of each expert alone, (E, H', W').
        mixed: with the one kernel that they are mixed into, (H', W').
        summed: the experts' responses, each times its routing weight, added up: (H', W').
        disagreement: the largest difference between the two last, of all output channels, over the largest response.
    """

    experts: np.ndarray
    mixed: np.ndarray
    summed: np.ndarray
    disagreement: float


def responses(model: nn.Module, x: np.ndarray, layer: str, channel: int, routing_weights: np.ndarray) -> Responses:
    """Convolve one image with every expert, and once with their mixture: the same, since convolution is linear.

    Args:
        model: in evaluation mode.
        x: its input, (1, ...).
        layer: the name of a CondConv layer in it. A response of CondConv1d has H' = 1, one of CondLinear is (1, 1).
        channel: the output channel to return, from 0.
        routing_weights: (E,), what to mix by.

    Raises:
        ValueError: if there is no such layer or channel, or it has another number of experts.
    """
    module: Any = dict(model.named_modules()).get(layer)
    if type(module).__name__ not in CONDITIONAL:
        raise ValueError(f"[responses] the model has no CondConv layer called {layer!r}.")
    count, channels = module.weight.shape[:2]
    if routing_weights.shape != (count,) or not 0 <= channel < channels:
        raise ValueError(
            f"[responses] {layer} has {count} experts and {channels} output channels, got routing weights of shape "
            f"{routing_weights.shape} and channel {channel}."
        )
    given = _input_of(model, x, layer)
    weights = mx.array(routing_weights[None].astype(np.float32))
    each = module(mx.broadcast_to(given, (count, *given.shape[1:])), mx.eye(count))
    # The same layer with one expert, which is the mixture.
    single = copy.copy(module)
    single.weight = mix_experts(weights, module.weight)
    if "bias" in module:
        single.bias = mix_experts(weights, module.bias)
    mixed = single(given, mx.ones((1, 1)))
    summed = (each * weights.reshape(-1, *[1] * (each.ndim - 1))).sum(axis=0, keepdims=True)
    gap, largest = mx.abs(mixed - summed).max(), mx.abs(mixed).max()
    mx.eval(each, mixed, summed, gap, largest)
    return Responses(
        experts=_maps(each, channel),
        mixed=_maps(mixed, channel)[0],
        summed=_maps(summed, channel)[0],
        disagreement=float(gap) / max(float(largest), 1e-30),
    )


class _Recorder(nn.Module):
    """In the place of a layer: keeps what it was called with."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.seen: list[mx.array] = []

    def __call__(self, x: mx.array, *routing_weights: mx.array) -> mx.array:
        self.seen.append(x)
        return self.layer(x, *routing_weights)


def _input_of(model: nn.Module, x: np.ndarray, layer: str) -> mx.array:
    """The input of a layer, the first time that the model calls it."""
    module: Any = dict(model.named_modules())[layer]
    recorder = _Recorder(module)
    model.update_modules(tree_unflatten([(layer, recorder)]))
    try:
        model(mx.array(x))
    finally:
        model.update_modules(tree_unflatten([(layer, module)]))
    return recorder.seen[0]


def _maps(output: mx.array, channel: int) -> np.ndarray:
    """(N, O), (N, L, O) or (N, H, W, O) to (N, H, W) of one channel."""
    maps = np.array(output[..., channel].astype(mx.float32))
    return maps.reshape(len(maps), *[1] * (3 - maps.ndim), *maps.shape[1:])
