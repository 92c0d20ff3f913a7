"""The kernels of a layer: its experts, and their mixture."""

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
