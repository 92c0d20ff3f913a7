"""Ordinary operations for the static layers of our own networks, with gradients that are faster on a CPU.

On a GPU they are MLX's own, and so they are where `exportable` asks for it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from condconv_mlx.functional.geometry import Geometry, Padding, padding_pairs, pair
from condconv_mlx.functional.gradients import with_gradients


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

    MLX's CPU backend computes the input gradient of a strided convolution by a naive loop; there the unfolded
    product serves instead. On a GPU, for groups, and where `exportable` asks for it, this is MLX's own. Padding as in
    `conv2d_per_example`.
    """
    strides, dilations = pair(stride, "stride"), pair(dilation, "dilation")
    pads = padding_pairs(padding, x.shape[1:3], weight.shape[1:3], strides, dilations)
    if groups == 1 and not exportable and mx.default_device() == mx.cpu:
        return with_gradients("unfold", Geometry(strides, pads, dilations))(x, weight[None])
    (top, bottom), (left, right) = pads
    return mx.conv_general(x, weight, strides, ([top, left], [bottom, right]), kernel_dilation=dilations, groups=groups)


def relu(x: mx.array) -> mx.array:
    """max(x, 0). The gradient of `mx.maximum` takes ten passes where this takes three."""
    return _relu()(x) if mx.default_device() == mx.cpu else mx.maximum(x, 0)


@cache
def _relu() -> Callable[[mx.array], Any]:
    @mx.custom_function
    def positive(x: mx.array) -> mx.array:
        return mx.maximum(x, 0)

    @positive.vjp
    def gradient(_: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
        return cotangent * (output > 0)

    return positive


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
