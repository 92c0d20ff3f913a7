"""Every function, layer and gradient on the default device, against a plain loop over the examples on the CPU."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx import functional as F
from condconv_mlx import layers, plain

Function = Callable[..., mx.array]

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
# Largest error over largest value. A GPU may multiply float32 in TF32, which keeps 10 bits of each factor.
_TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
_GPU_FLOAT32 = 3e-3


@dataclass(frozen=True)
class Geometry:
    """One convolution: sizes, and the padding both as a user writes it and in pixels, worked out by hand."""

    size: tuple[int, int]
    channels: tuple[int, int]
    kernel: tuple[int, int]
    padding: Any
    pads: plain.Pads
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    examples: int = 3

    def __str__(self) -> str:
        shown = f"{self.size[0]}×{self.size[1]}, kernel {self.kernel[0]}×{self.kernel[1]}, padding {self.padding}"
        for name, usual in (("stride", (1, 1)), ("dilation", (1, 1)), ("groups", 1)):
            if getattr(self, name) != usual:
                shown += f", {name} {getattr(self, name)}"
        return shown

    def arguments(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def plain(self) -> dict[str, Any]:
        return self.arguments() | {"padding": self.pads}


_NONE = ((0, 0), (0, 0))
_ONE = ((1, 1), (1, 1))
GEOMETRIES = (
    Geometry((8, 8), (4, 6), (3, 3), 1, _ONE),
    Geometry((9, 7), (4, 6), (3, 3), "valid", _NONE, stride=(2, 2)),
    Geometry((8, 8), (4, 6), (3, 3), "same", ((0, 1), (0, 1)), stride=(2, 2)),
    Geometry((7, 9), (3, 5), (1, 1), 0, _NONE, examples=1),
    Geometry((8, 9), (3, 5), (1, 1), 0, _NONE, stride=(2, 2)),
    Geometry((10, 9), (3, 5), (7, 7), (3, 3), ((3, 3), (3, 3))),
    Geometry((9, 8), (4, 6), (2, 5), ((1, 0), (2, 2)), ((1, 0), (2, 2)), stride=(1, 2)),
    Geometry((11, 9), (4, 6), (3, 3), "same", ((2, 2), (2, 2)), dilation=(2, 2)),
    Geometry((11, 11), (4, 6), (3, 3), 2, ((2, 2), (2, 2)), stride=(2, 2), dilation=(2, 2)),
    Geometry((8, 8), (4, 6), (3, 3), 1, _ONE, stride=(2, 2), groups=2),
    Geometry((8, 7), (6, 6), (3, 3), 1, _ONE, groups=6),
    Geometry((9, 8), (6, 6), (5, 5), "same", ((2, 2), (1, 2)), stride=(2, 2), groups=6),
    Geometry((6, 6), (32, 32), (3, 3), 1, _ONE, examples=33),
)


@dataclass
class Check:
    """How far one thing is from the plain loop, over all its cases.

    Attributes:
        name: what was checked, e.g. `"cond_conv2d, unfold"`.
        dtype: of all its arrays.
        tolerance: the error from which on it counts as wrong.
        cases: how many were computed.
        error: the largest error of an output or gradient, relative to the largest value of the same array.
        worst: where that was.
    """

    name: str
    dtype: str
    tolerance: float
    cases: int = 0
    error: float = 0.0
    worst: str = ""

    @property
    def passed(self) -> bool:
        return self.cases > 0 and self.error <= self.tolerance


def verify() -> Iterator[Check]:
    """Check everything, one `Check` after the other; a few seconds on two cores."""
    for check in checks():
        yield check()


def checks() -> list[Callable[[], Check]]:
    """Everything that is to be checked, still to be called."""
    found: list[Callable[[], Check]] = []
    for dtype in DTYPES:
        found.append(partial(_check_mixing, dtype))
        found += [partial(_check_per_example, dtype, strategy) for strategy in ("auto", *F.STRATEGIES)]
        found += [partial(_check_conditional, dtype, strategy) for strategy in ("auto", *F.STRATEGIES, "outputs")]
        found += [partial(check, dtype) for check in (_check_static, _check_batch_norm, _check_relu)]
    if _on_gpu():
        # On a CPU, compiling needs a C++ compiler.
        found.append(partial(_check_conditional, "float32", "auto", compiled=True))
    return [*found, _check_router, _check_layers2d, _check_layers1d, _check_linear]


def _check_mixing(dtype: str) -> Check:
    check = _new("mix_experts", dtype)
    for examples, experts, shape in ((3, 4, (6, 3, 3, 4)), (1, 1, (5, 1, 1, 3)), (33, 8, (7,))):
        values = {"routing weights": _routing(examples, experts), "experts": _normal(experts, *shape)}
        _compare(check, f"{examples} examples, {experts} experts", values, F.mix_experts, plain.mix_experts)
    return check


def _check_per_example(dtype: str, strategy: str) -> Check:
    check = _new(f"conv2d_per_example, {strategy}", dtype)
    for case in GEOMETRIES:
        values = {
            "x": _input(case),
            "kernels": _kernels(case, case.examples),
            "bias": _normal(case.examples, case.channels[1]),
        }
        ours = partial(F.conv2d_per_example, strategy=strategy, **case.arguments())
        _compare(
            check,
            str(case),
            values,
            ours,
            partial(plain.conv2d_per_example, **case.plain()),
            may_refuse=strategy != "auto",
        )
    return check


def _check_conditional(dtype: str, strategy: str, compiled: bool = False) -> Check:
    check = _new(f"cond_conv2d, {'compiled' if compiled else strategy}", dtype)
    for number, case in enumerate(GEOMETRIES):
        experts = (4, 1, 8)[number % 3]
        values = {
            "x": _input(case),
            "routing weights": _routing(case.examples, experts),
            "experts": _kernels(case, experts),
            "bias": _normal(experts, case.channels[1]),
        }
        ours: Function = partial(F.cond_conv2d, strategy=strategy, **case.arguments())
        ours = mx.compile(ours) if compiled else ours
        _compare(
            check, str(case), values, ours, partial(plain.cond_conv2d, **case.plain()), may_refuse=strategy != "auto"
        )
    return check


def _check_static(dtype: str) -> Check:
    check = _new("conv2d", dtype)
    for case in GEOMETRIES:

        def one_kernel(x: mx.array, kernel: mx.array, case: Geometry = case) -> mx.array:
            return plain.conv2d_per_example(x, [kernel] * len(x), **case.plain())

        ours = partial(F.conv2d, **case.arguments())
        _compare(check, str(case), {"x": _input(case), "kernel": _kernels(case, 1)[0]}, ours, one_kernel)
    return check


def _check_batch_norm(dtype: str) -> Check:
    check = _new("batch_norm", dtype)
    for shape in ((8, 5), (3, 4, 6, 5)):
        # Not the numbers that the cotangent of the same shape has: the gradient along x itself vanishes.
        values = {"x": _normal(2, *shape)[1], "weight": _normal(5), "bias": _normal(5) + 1}
        _compare(check, f"x {shape}", values, lambda x, w, b: F.batch_norm(x, w, b, 1e-5)[0], plain.batch_norm)
    return check


def _check_relu(dtype: str) -> Check:
    check = _new("relu", dtype)
    _compare(check, "x (3, 4, 5)", {"x": _normal(3, 4, 5)}, F.relu, lambda x: (x + mx.abs(x)) / 2)
    return check


def _check_router() -> Check:
    check = _new("Router", "float32")
    for activation, hidden, norm in (
        ("sigmoid", None, False),
        ("softmax", None, False),
        ("sigmoid", 5, False),
        ("sigmoid", None, True),
    ):
        router = layers.Router(6, 4, activation=activation, hidden=hidden, temperature=3.0, norm=norm)
        _compare_layer(check, f"{activation}, hidden {hidden}, norm {norm}", router, _normal(3, 5, 4, 6), plain.route)
    return check


def _check_layers2d() -> Check:
    check = _new("CondConv2d", "float32")
    for case in GEOMETRIES:
        layer = layers.CondConv2d(*case.channels, case.kernel, num_experts=4, **case.arguments())

        def loop(layer: Any, x: mx.array, case: Geometry = case) -> mx.array:
            return plain.cond_conv2d(x, plain.route(layer.router, x), layer.weight, layer.bias, **case.plain())

        _compare_layer(check, str(case), layer, _input(case), loop)
    return check


def _check_layers1d() -> Check:
    check = _new("CondConv1d", "float32")
    for kernel, stride, padding, dilation, groups in (
        (3, 1, 1, 1, 1),
        (4, 2, 0, 1, 2),
        (3, 2, 2, 2, 1),
        (5, 1, 2, 1, 4),
    ):
        layer = layers.CondConv1d(4, 8, kernel, 4, stride, padding, dilation, groups)

        def loop(layer: Any, x: mx.array) -> mx.array:
            routing_weights = plain.route(layer.router, x)
            kernels, bias = (
                plain.mix_experts(routing_weights, layer.weight),
                plain.mix_experts(routing_weights, layer.bias),
            )
            settings = (layer.stride, layer.padding[0], layer.dilation, layer.groups)
            return mx.stack([mx.conv1d(x[n : n + 1], kernels[n], *settings)[0] + bias[n] for n in range(len(x))])

        _compare_layer(check, f"kernel {kernel}, stride {stride}, dilation {dilation}", layer, _normal(3, 11, 4), loop)
    return check


def _check_linear() -> Check:
    check = _new("CondLinear", "float32")
    for shape in ((3, 6), (2, 5, 6)):

        def loop(layer: Any, x: mx.array) -> mx.array:
            routing_weights = plain.route(layer.router, x)
            matrices, bias = (
                plain.mix_experts(routing_weights, layer.weight),
                plain.mix_experts(routing_weights, layer.bias),
            )
            return mx.stack([x[n] @ matrices[n].T + bias[n] for n in range(len(x))])

        _compare_layer(check, f"x {shape}", layers.CondLinear(6, 5, 4), _normal(*shape), loop)
    return check


def _compare_layer(check: Check, case: str, layer: nn.Module, x: np.ndarray, loop: Function) -> None:
    """Compare a layer as a function of its input and all its parameters."""
    parameters: dict[str, mx.array] = dict(tree_flatten(layer.parameters()))
    values = {"x": x} | {name: _normal(*value.shape) for name, value in parameters.items()}

    def call(function: Function, x: mx.array, *values: mx.array) -> mx.array:
        layer.update(tree_unflatten(list(zip(parameters, values, strict=True))))
        return function(layer, x)

    _compare(check, case, values, partial(call, lambda layer, x: layer(x)), partial(call, loop))


def _compare(
    check: Check, case: str, values: dict[str, np.ndarray], ours: Function, loop: Function, may_refuse: bool = False
) -> None:
    """Add one case: the output, and the gradient of each of `values`, by `ours` and by `loop`."""
    dtype = DTYPES[check.dtype]
    # Both start from the same rounded numbers; the loop then goes on in float32.
    rounded = {name: np.array(mx.array(value).astype(dtype).astype(mx.float32)) for name, value in values.items()}
    with mx.stream(mx.cpu):
        arrays = [mx.array(value) for value in rounded.values()]
        cotangent = mx.array(_normal(*loop(*arrays).shape))
        wanted = output_and_gradients(loop, arrays, cotangent)
    try:
        arrays = [mx.array(value).astype(dtype) for value in rounded.values()]
        got = output_and_gradients(ours, arrays, mx.array(np.array(cotangent)).astype(dtype))
    except Exception as error:  # Whatever it is belongs in the table.
        if may_refuse and isinstance(error, ValueError):
            return
        check.cases, check.error, check.worst = check.cases + 1, float("inf"), f"{case}: {error}"
        return
    check.cases += 1
    for name, one, other in zip(["output", *(f"gradient of {name}" for name in values)], got, wanted, strict=True):
        distance = relative_error(one, other)
        if distance > check.error:
            check.error, check.worst = distance, f"{name}, {case}"


def output_and_gradients(function: Function, arrays: list[mx.array], cotangent: mx.array) -> list[np.ndarray]:
    """What a function of `arrays` gives, and the gradient of each for the output's cotangent, in float32."""
    outputs, gradients = mx.vjp(function, arrays, [cotangent])
    return [np.array(array.astype(mx.float32)) for array in (*outputs, *gradients)]


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest error over the largest value; infinite for another shape or what is no number."""
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-30))


def _new(name: str, dtype: str) -> Check:
    return Check(name, dtype, tolerance(dtype))


def tolerance(dtype: str) -> float:
    """The relative error from which on a result in this dtype counts as wrong on the default device."""
    return _GPU_FLOAT32 if _on_gpu() and dtype == "float32" else _TOLERANCES[dtype]


def _on_gpu() -> bool:
    return mx.default_device() != mx.Device(mx.cpu)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def _routing(examples: int, experts: int) -> np.ndarray:
    return np.random.default_rng(examples + experts).random((examples, experts)).astype(np.float32)


def _input(case: Geometry) -> np.ndarray:
    return _normal(case.examples, *case.size, case.channels[0])


def _kernels(case: Geometry, count: int) -> np.ndarray:
    return _normal(count, case.channels[1], *case.kernel, case.channels[0] // case.groups)
