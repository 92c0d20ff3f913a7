"""The arrays that a convolution is measured on."""

from typing import Any

import mlx.core as mx

from condconv_mlx.bench.cases import Shape


def operands(shape: Shape, experts: int) -> tuple[mx.array, mx.array, mx.array]:
    """x (N, H, W, Cin), routing weights (N, E) and experts (E, O, kh, kw, Cin / groups), random and evaluated."""
    x = mx.random.normal((shape.examples, shape.size, shape.size, shape.in_channels))
    routing_weights = mx.random.uniform(shape=(shape.examples, experts))
    kernel = (shape.out_channels, shape.kernel, shape.kernel, shape.in_channels // shape.groups)
    bank = mx.random.normal((experts, *kernel)) * 0.1
    mx.eval(x, routing_weights, bank)
    return x, routing_weights, bank


def options(shape: Shape) -> dict[str, Any]:
    """How the kernel moves, as `mx.conv2d` and our functions take it."""
    return {"stride": shape.stride, "padding": shape.padding, "groups": shape.groups}
