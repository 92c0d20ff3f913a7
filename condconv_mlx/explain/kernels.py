"""The kernels of a layer: its experts, and their mixture."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np


def experts_of(model: nn.Module, layer: str) -> np.ndarray:
    """The experts of a layer of a model, as float32.

    Returns:
        (E, O, kh, kw, Cin / groups) for CondConv2d, (E, O, k, Cin / groups) for CondConv1d, (E, O, I) for CondLinear.

    Raises:
        ValueError: if the model has no layer of that name, or it has no experts.
    """
    module: Any = dict(model.named_modules()).get(layer)
    if module is None or type(module).__name__ not in ("CondConv2d", "CondConv1d", "CondLinear"):
        raise ValueError(f"[experts_of] the model has no CondConv layer called {layer!r}.")
    return np.array(module.weight.astype(mx.float32))


def mixed_kernel(experts: np.ndarray, routing_weights: np.ndarray) -> np.ndarray:
    """experts (E, ...) mixed by routing weights (E,) or (N, E): (...) or (N, ...)."""
    if routing_weights.ndim not in (1, 2) or routing_weights.shape[-1] != experts.shape[0]:
        raise ValueError(
            f"[mixed_kernel] routing_weights must be (E,) or (N, E) with E = {experts.shape[0]}, "
            f"got shape {routing_weights.shape}."
        )
    return np.tensordot(routing_weights, experts, axes=1)


@dataclass(frozen=True)
class Mixture:
    """A layer's kernels for one image, beside those for the usual routing weights.

    Attributes:
        experts: (E, O, ...), as of `experts_of`.
        mixed: by the image's routing weights, (O, ...).
        usual: by the usual ones, (O, ...).
        change: for each output channel how far the mixed kernel is from the usual one, over the latter's length, (O,).
    """

    experts: np.ndarray
    mixed: np.ndarray
    usual: np.ndarray
    change: np.ndarray


def mixture(model: nn.Module, layer: str, routing_weights: np.ndarray, usual: np.ndarray) -> Mixture:
    """The experts of a layer, and what routing weights (E,) and usual ones (E,) mix them into.

    Raises:
        ValueError: as `experts_of` and `mixed_kernel` do.
    """
    experts = experts_of(model, layer)
    mixed, mean = mixed_kernel(experts, routing_weights), mixed_kernel(experts, usual)
    return Mixture(experts, mixed, mean, relative_change(mixed, mean))


def relative_change(kernels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each output channel the distance of two kernels (O, ...) over the length of the other one: (O,)."""
    distance, length = (np.linalg.norm(a.reshape(len(a), -1), axis=1) for a in (kernels - others, others))
    return distance / np.maximum(length, np.finfo(np.float32).tiny)


def build_up(experts: np.ndarray, routing_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mixture expert by expert, the one with the largest weight first.

    Args:
        experts: of one or all output channels, (E, ...).
        routing_weights: (E,).

    Returns:
        The experts in that order, (E,), and the sum after each, (E, ...).
    """
    order = np.argsort(-routing_weights, kind="stable")
    weights = routing_weights[order].reshape(-1, *[1] * (experts.ndim - 1))
    return order, np.cumsum(weights * experts[order], axis=0)


def similarity(kernel: np.ndarray, other: np.ndarray) -> float:
    """The cosine of the angle between two kernels of the same shape: 1 if one is a multiple of the other."""
    lengths = float(np.linalg.norm(kernel)) * float(np.linalg.norm(other))
    return float(np.vdot(kernel, other)) / max(lengths, 1e-30)
