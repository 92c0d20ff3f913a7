"""Ordinary operations for the static layers of our own networks, with gradients that are faster on a CPU.

On a GPU they are MLX's own, and so they are where `exportable` asks for it.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from condconv_mlx.functional.defaults import Case, default
from condconv_mlx.functional.geometry import Geometry, Padding, padding_pairs, pair
from condconv_mlx.functional.gradients import with_gradients
from condconv_mlx.functional.patches import pad
from condconv_mlx.functional.splitting import FORWARD, convolve, multiplications
from condconv_mlx.functional.streams import parts, piecewise

# Numbers from which SiLU is computed in parts. In one piece and in two, ms: 100,000 0.25 and 0.23, 300,000 0.61 and
# 0.46, a million 2.5 and 1.9, three millions 9.7 and 7.4.
SILU = 2e5


def conv2d(
    x: mx.array,
    weight: mx.array,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    exportable: bool = False,
) -> mx.array:
    """`mx.conv2d` of x (N, H, W, Cin) with weight (O, kh, kw, Cin / groups), faster to differentiate on a CPU.

    MLX's CPU backend computes the input gradient of a strided convolution, and all of a depthwise one, by a naive loop,
    and copies the input of a pointwise one; there the unfolded product and the shifted image serve instead. On a GPU,
    for other groups, and in most cases where `exportable` asks for it, this is MLX's own. Padding as in
    `conv2d_per_example`.
    """
    strides, dilations = pair(stride, "stride"), pair(dilation, "dilation")
    pads = padding_pairs(padding, x.shape[1:3], weight.shape[1:3], strides, dilations)
    if mx.default_device() == mx.cpu:
        geometry = Geometry(strides, pads, dilations, groups)
        if x.ndim == 4 and len(x) and (groups == 1 or geometry.is_depthwise(x.shape[3], weight.shape[0])):
            strategy = default(Case(x.shape, weight.shape, None, geometry, "float32", not exportable), "cpu")
            in_parts = parts(multiplications(x, weight.shape, geometry), FORWARD) > 1
            if strategy == "rows" and not in_parts:
                # One product for all examples, of which a BLAS with several threads makes more.
                strategy = "unfold"
            if not exportable:
                return with_gradients(strategy, geometry)(x, weight[None])
            if in_parts or groups > 1 or weight.shape[1:3] == (1, 1):
                return convolve(strategy, x, weight[None], geometry)
    (top, bottom), (left, right) = pads
    return mx.conv_general(x, weight, strides, ([top, left], [bottom, right]), kernel_dilation=dilations, groups=groups)


def relu(x: mx.array, cap: float = math.inf) -> mx.array:
    """max(x, 0), and no more than `cap`. The gradient of `mx.maximum` takes ten passes where this takes two."""
    return _relu(cap)(x) if mx.default_device() == mx.cpu else _clipped(x, cap)


@cache
def _relu(cap: float) -> Callable[[mx.array], Any]:
    @mx.custom_function
    def positive(x: mx.array) -> mx.array:
        return _clipped(x, cap)

    @positive.vjp
    def gradient(_: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
        # `mx.sign` is a pass of its own, where a comparison takes another to become numbers.
        return cotangent * (mx.sign(output) if cap == math.inf else (output > 0) & (output < cap))

    return positive


def _clipped(x: mx.array, cap: float) -> mx.array:
    positive = mx.maximum(x, 0)
    return positive if cap == math.inf else mx.minimum(positive, cap)


def silu(x: mx.array, exportable: bool = False) -> mx.array:
    """x · sigmoid(x).

    MLX's CPU backend takes 16 ns for each sigmoid. There this takes 4, to within 2e-7 · max(1, |x|), in float32.
    """
    if mx.default_device() != mx.cpu or x.dtype != mx.float32:
        return x * mx.sigmoid(x)
    return _in_parts(x) if exportable else _silu()(x)


_RANGE = 20


def _swish(x: mx.array) -> mx.array:
    x = mx.maximum(x, -_RANGE)
    return x / _one_plus_exp(x)


def _swish_gradient(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    sigmoid = 1 / _one_plus_exp(mx.maximum(x, -_RANGE))
    return cotangent * (sigmoid + output * (1 - sigmoid))


def _in_parts(x: mx.array) -> mx.array:
    return piecewise(_swish, x, least=SILU)


@cache
def _silu() -> Callable[[mx.array], Any]:
    swish = mx.custom_function(_in_parts)

    @swish.vjp
    def gradient(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
        return piecewise(_swish_gradient, x, cotangent, output, least=SILU)

    return swish


def _one_plus_exp(x: mx.array) -> mx.array:
    """1 + exp(-x) by multiplications, for x >= -20; from 20 on nothing changes any more.

    exp(-x) = ((1 - t) / (1 + t))⁴ for t = tanh(x / 8), and t is a quotient of polynomials, odd / even. Their
    coefficients are fitted so that x / (1 + exp(-x)) is off by 5e-8 · max(1, |x|); rounding makes 2e-7 of that.
    """
    x = mx.minimum(x, _RANGE)
    square = x * x
    odd = (square * 1.83192571e-4 + 0.124999964) * x
    even = (square * 2.21365674e-6 + 6.67378425e-3) * square + 1
    power = (even - odd) / (even + odd)
    power = power * power
    return power * power + 1


def max_pool(x: mx.array, exportable: bool = False) -> mx.array:
    """The maxima of squares of 2×2; x (N, H, W, C) -> (N, floor(H / 2), floor(W / 2), C).

    An odd row or column at the end is left out. Equal maxima share the gradient. That of `nn.MaxPool2d` is a scatter.
    """
    return _maxima(x) if exportable else _max_pool(x)


def _squares(x: mx.array) -> mx.array:
    """(N, H, W, C) -> (N, floor(H / 2), 2, floor(W / 2), 2, C)."""
    n, height, width, channels = x.shape
    height, width = height // 2, width // 2
    return x[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)


def _maxima(x: mx.array) -> mx.array:
    # Faster than `mx.max` over the two short axes.
    squares = _squares(x)
    rows = mx.maximum(squares[:, :, 0], squares[:, :, 1])
    return mx.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


_max_pool: Any = mx.custom_function(_maxima)


@_max_pool.vjp
def _max_pool_gradient(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    squares = _squares(x)
    n, rows, _, columns, _, channels = squares.shape
    pairs = squares.reshape(n, rows, 2, 2 * columns, channels)
    is_maximum = mx.stop_gradient(pairs == mx.repeat(output, 2, axis=2)[:, :, None])
    # Counted as bytes, and made numbers by the product: `mx.where` takes seven times as long as that.
    number = is_maximum.view(mx.uint8)
    number = (number[:, :, 0] + number[:, :, 1]).reshape(n, rows, columns, 2, channels)
    shared = cotangent / (number[:, :, :, 0] + number[:, :, :, 1]).astype(x.dtype)
    # Columns are written out twice, rows are not: to broadcast over two axes that are apart takes twice as long.
    gradient = is_maximum * mx.repeat(shared, 2, axis=2)[:, :, None]
    gradient = gradient.reshape(n, 2 * rows, 2 * columns, channels)
    return pad(gradient, ((0, x.shape[1] % 2), (0, x.shape[2] % 2)))


def batch_norm(x: mx.array, weight: mx.array, bias: mx.array, eps: float) -> tuple[mx.array, mx.array, mx.array]:
    """Normalise each channel of x (N, ..., C) over all other axes; weight and bias (C,).

    Returns:
        The output, and the mean and variance (C,) that were used.
    """
    return _batch_norm(eps)(x, weight, bias)


@cache
def _batch_norm(eps: float) -> Callable[[mx.array, mx.array, mx.array], Any]:
    """x -> x · scale + shift, one of each a channel. The derivative by x follows from the two sums of the cotangent."""

    @mx.custom_function
    def normalise(x: mx.array, weight: mx.array, bias: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axis=axes)
        centred = x - mean
        variance = (centred * centred).mean(axis=axes)
        return centred * (weight * mx.rsqrt(variance + eps)) + bias, mean, variance

    @normalise.vjp
    def gradients(primals: tuple, cotangents: tuple, outputs: tuple) -> tuple[mx.array, mx.array, mx.array]:
        (x, weight, _), (cotangent, of_mean, of_variance), (_, mean, variance) = primals, cotangents, outputs
        axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
        inverse = mx.rsqrt(variance + eps)
        centred = x - mean
        of_bias = cotangent.sum(axis=axes)
        of_weight = (cotangent * centred).sum(axis=axes) * inverse
        scale = weight * inverse
        of_x = cotangent * scale + (
            centred * ((2 * of_variance - scale * inverse * of_weight) / count) + (of_mean - scale * of_bias) / count
        )
        return of_x, of_weight, of_bias

    return normalise
