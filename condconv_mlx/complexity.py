"""Multiply-adds and parameters of a model, layer by layer.

Counted are the products of convolutions and fully connected layers, and for a layer with experts also what mixes them:
experts × parameters of the kernel, for every example (CondConv paper, section 3.1). Additions of biases, normalisation,
activations and pooling are not, as is usual.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.layers import CondConv1d, CondConv2d, CondLinear, Router

Call = Callable[..., Any]
CONDITIONAL = (CondConv1d, CondConv2d, CondLinear)
RUNNING_STATISTICS = ("running_mean", "running_var")
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Of `by_kind`: convolutions and fully connected layers with one kernel, those with experts, mixing their kernels,
# what belongs to a router, and all else, such as normalisation.
STATIC, WITH_EXPERTS, MIXING = "static layers", "layers with experts", "mixing kernels"
ROUTERS, OTHER = "routers", "other layers"
KINDS = (STATIC, WITH_EXPERTS, MIXING, ROUTERS, OTHER)


@dataclass(frozen=True)
class Layer:
    """One layer, for one example.

    Attributes:
        name: its dotted name in the model; "" for the model itself.
        kind: its class.
        output_shape: without the batch.
        madds: multiply-adds, all its calls together.
        params: parameters of its own, frozen or not; not those of the layers in it, and no running statistics.
        mixing: of its multiply-adds, those that mix experts.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    madds: int
    params: int
    mixing: int = 0


@dataclass(frozen=True)
class Complexity:
    """`madds` multiply-adds for one example, `params` parameters, and both by layer."""

    madds: int
    params: int
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Cost:
    """Multiply-adds for one example, and parameters."""

    madds: int
    params: int


def count(model: nn.Module, input_shape: Sequence[int]) -> Complexity:
    """Count the multiply-adds and parameters of any MLX model. Nothing is computed.

    Args:
        model: a module that takes one array.
        input_shape: of one example, without the batch: (H, W, C) for images.

    Returns:
        The sums, and a row for each layer that has parameters, in the order in which they first run. Layers that do
        not run come last. Only the layers that MLX and this package call convolutions and linear have multiply-adds.

    Raises:
        ValueError: if the model does not take such an input.
    """
    if not all(isinstance(size, int) and size > 0 for size in input_shape):
        raise ValueError(f"[count] input_shape must be positive integers without the batch, got {input_shape!r}.")
    modules = {id(module): (name, module) for name, module in model.named_modules()}
    seen: dict[int, tuple[tuple[int, ...], int, int]] = {}

    def counted(module: nn.Module, call: Call, args: tuple[Any, ...]) -> Any:
        output = call(module, *args)
        shape = output.shape[1:] if isinstance(output, mx.array) else ()
        _, applied, mixing = seen.get(id(module), ((), 0, 0))
        seen[id(module)] = (shape, applied + _applied(module, shape), mixing + _mixing(module))
        return output

    was_training = model.training
    try:
        with watched([module for _, module in modules.values()], counted):
            model.eval()(mx.zeros((1, *input_shape)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"[count] the model cannot take an input of shape {(1, *input_shape)}: {error}") from error
    finally:
        model.train(was_training)
    order = [*seen, *(key for key in modules if key not in seen)]
    layers = tuple(
        Layer(name, type(module).__name__, shape, applied + mixing, params, mixing)
        for key in order
        for name, module in [modules[key]]
        for shape, applied, mixing in [seen.get(key, ((), 0, 0))]
        if (params := _own_params(module))
    )
    return Complexity(sum(layer.madds for layer in layers), sum(layer.params for layer in layers), layers)


def by_kind(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Cost]:
    """What the kinds of layers cost, each of `KINDS`; together they are `count`, which takes the same arguments."""
    modules = dict(model.named_modules())
    routers = tuple(f"{name}." for name, module in modules.items() if isinstance(module, Router))
    costs = dict.fromkeys(KINDS, Cost(0, 0))
    for layer in count(model, input_shape).layers:
        module = modules[layer.name]
        if layer.name.startswith(routers):
            kind = ROUTERS
        elif isinstance(module, CONDITIONAL):
            kind = WITH_EXPERTS
        else:
            kind = STATIC if isinstance(module, LINEAR) else OTHER
        had, mixed = costs[kind], costs[MIXING]
        costs[kind] = Cost(had.madds + layer.madds - layer.mixing, had.params + layer.params)
        costs[MIXING] = Cost(mixed.madds + layer.mixing, 0)
    return costs


def _applied(module: nn.Module, output_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one call that apply a kernel, for one example. The last axis of the output are channels."""
    if isinstance(module, CONDITIONAL):
        return prod(output_shape[:-1]) * prod(module.weight.shape[1:])
    if isinstance(module, LINEAR):
        return prod(output_shape[:-1]) * module.weight.size
    return 0


def _mixing(module: nn.Module) -> int:
    """Multiply-adds of one call that mix experts, for one example."""
    if not isinstance(module, CONDITIONAL):
        return 0
    experts, *kernel = module.weight.shape
    return experts * (prod(kernel) + (kernel[0] if "bias" in module else 0))


def _own_params(module: nn.Module) -> int:
    return sum(
        value.size for name, value in module.items() if isinstance(value, mx.array) and name not in RUNNING_STATISTICS
    )


def count_parameters(model: nn.Module) -> int:
    """Parameters of a model, frozen or not, shared ones once. Running statistics of batch normalisation are none."""
    return sum(map(_own_params, {id(module): module for module in model.modules()}.values()))


@contextmanager
def watched(modules: Sequence[nn.Module], around: Callable[[nn.Module, Call, tuple[Any, ...]], Any]) -> Iterator[None]:
    """In this block `around(module, call, arguments)` takes the place of each call of these modules.

    It gives the output, which is `call(module, *arguments)`. Python looks up `__call__` in the class, so each module
    becomes an instance of a class of its own for a while.
    """
    kinds: list[Any] = [type(module) for module in modules]
    try:
        for module, kind in zip(modules, kinds, strict=True):

            def call(self: nn.Module, *args: Any, _call: Call = kind.__call__, **options: Any) -> Any:
                return around(self, partial(_call, **options), args)

            module.__class__ = type(kind.__name__, (kind,), {"__call__": call})
        yield
    finally:
        for module, kind in zip(modules, kinds, strict=True):
            module.__class__ = kind
