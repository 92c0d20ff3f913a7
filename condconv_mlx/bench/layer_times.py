"""Where the time of a training step goes: each layer alone, on what it gets in the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx.bench.cases import CONDITIONAL, NORM, POOLING, ROUTING, STATIC
from condconv_mlx.bench.timing import Effort, Work, median_times
from condconv_mlx.complexity import watched
from condconv_mlx.layers import CondConv2d, CondLinear, Router
from condconv_mlx.static_layers import MaxPool, ReLU, ReLU6, SiLU

# In this order, since a CondLinear may hold a Router.
_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    (CONDITIONAL, (CondConv2d,)),
    (STATIC, (nn.Conv2d,)),
    (NORM, (nn.BatchNorm, nn.GroupNorm, nn.LayerNorm, ReLU, ReLU6, SiLU)),
    (POOLING, (MaxPool,)),
    (ROUTING, (Router, CondLinear, nn.Linear)),
)


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of all layers of a kind in one step: their outputs, and then their gradients."""

    forward_ms: float
    backward_ms: float


def layer_times(model: nn.Module, images: mx.array, effort: Effort) -> dict[str, LayerTimes]:
    """By kind of layer, for a batch of images (N, H, W, C), which needs no gradient; of kinds that occur.

    Each layer is waited for, so that together they may take longer than in the network, where one can be computed while
    Python is at the next. The model's arrays stay as they are.
    """
    kinds = kinds_of(model)
    calls: list[tuple[nn.Module, tuple[mx.array, ...]]] = []

    def noted(module: nn.Module, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        mx.eval(args)
        calls.append((module, args))
        return call(module, *args)

    before: Any = model.parameters()
    was_training = model.training
    try:
        with watched([module for module, _ in kinds.values()], noted):
            mx.eval(model.train()(images))
        by_module = {id(module): kind for module, kind in kinds.values()}
        found: dict[str, LayerTimes] = {}
        for module, args in calls:
            kind = by_module[id(module)]
            # Of images nobody wants a gradient.
            fixed = args[:1] if args[0] is images else ()
            times = median_times(_works(module, fixed, args[len(fixed) :]), effort)
            so_far = found.get(kind, LayerTimes(0.0, 0.0))
            found[kind] = LayerTimes(
                so_far.forward_ms + times["forward"], so_far.backward_ms + times["both"] - times["forward"]
            )
        return found
    finally:
        model.update(before)
        model.train(was_training)


def kinds_of(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """The layers that are timed as one, with their kind, by name; none lies in another."""
    found: dict[str, tuple[Any, str]] = {
        name: (module, kind)
        for name, module in model.named_modules()
        for kind, types in _KINDS
        if isinstance(module, types)
    }
    return {name: layer for name, layer in found.items() if not any(name.startswith(f"{above}.") for above in found)}


def _works(module: nn.Module, fixed: tuple[mx.array, ...], args: tuple[mx.array, ...]) -> dict[str, Work]:
    """The output, and the output with the gradients of the parameters and `args`. `fixed` come before these."""
    flat: Any = tree_flatten(module.trainable_parameters())
    names, values = [name for name, _ in flat], [value for _, value in flat]
    before: Any = module.parameters()

    def output(*arrays: mx.array) -> mx.array:
        module.update(tree_unflatten(list(zip(names, arrays, strict=False))))
        return module(*fixed, *arrays[len(names) :])

    def finish(*arrays: Any) -> None:
        # With what the layer keeps, such as running means, which is then as it was.
        mx.eval(arrays, module.parameters())
        module.update(before)

    cotangent = mx.ones_like(module(*fixed, *args))
    finish(cotangent)
    return {
        "forward": lambda: finish(module(*fixed, *args)),
        "both": lambda: finish(mx.vjp(output, [*values, *args], [cotangent])),
    }
