"""bfloat16 for the arithmetic of a step, float32 for the weights and for batch normalisation."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx.training.recomputing import acting_as


def bfloat16_copy(model: nn.Module, parameters: Any) -> Any:
    """Parameters of a model in bfloat16, those of batch normalisation as they are."""
    norms = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, nn.BatchNorm))
    flat: Any = tree_flatten(parameters)
    return tree_unflatten(
        [(name, value if name.startswith(norms) else value.astype(mx.bfloat16)) for name, value in flat]
    )


def frozen_parameters(model: nn.Module) -> Any:
    """What is not trained, without the statistics of batch normalisation, which move."""
    trainable: Any = tree_flatten(model.trainable_parameters())
    every: Any = tree_flatten(model.parameters())
    moved = {name for name, _ in trainable}
    return tree_unflatten(
        [(name, value) for name, value in every if name not in moved and ".running_" not in f".{name}"]
    )


@contextmanager
def float32_norms(model: nn.Module) -> Iterator[None]:
    """For the time of the block, batch normalisation computes in float32 whatever it gets, and gives back the same."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm):
                stack.enter_context(acting_as(module, _in_float32(type(module))))
        yield


@cache
def _in_float32(kind: Any) -> type:
    class InFloat32(kind):
        def __call__(self, x: mx.array) -> mx.array:
            return kind.__call__(self, x.astype(mx.float32)).astype(x.dtype)

    return InFloat32
