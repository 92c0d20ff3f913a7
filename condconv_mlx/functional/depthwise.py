"""The depthwise convolution as shifted images times taps, summed, with gradients of its own.

MLX's CPU backend computes depthwise convolutions by a naive loop, and its gradient of a strided slice is a scatter.
Here the output and both gradients are sums of products of shifted arrays.

Kernels are (N, kh, kw, C): one kernel an example and channel.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from condconv_mlx.functional.geometry import PaddingPairs, Pair, output_size
from condconv_mlx.functional.unfold import pad, spread


def forward(x: mx.array, kernels: mx.array, stride: Pair, padding: PaddingPairs, dilation: Pair) -> mx.array:
    """x (N, H, W, C), kernels (N, kh, kw, C) -> (N, H', W', C)."""
    output = None
    for i, j, shifted in _shifts(x, kernels.shape[1:3], stride, padding, dilation):
        product = shifted * kernels[:, None, None, i, j]
        output = product if output is None else output + product
    assert output is not None
    return output


def kernel_gradient(
    x: mx.array, cotangent: mx.array, kernel: Sequence[int], stride: Pair, padding: PaddingPairs, dilation: Pair
) -> mx.array:
    """The gradient (N, kh, kw, C) of the kernels, from the output's (N, H', W', C)."""
    taps = [(shifted * cotangent).sum(axis=(1, 2)) for _, _, shifted in _shifts(x, kernel, stride, padding, dilation)]
    return mx.stack(taps, axis=1).reshape(x.shape[0], kernel[0], kernel[1], x.shape[3])


def input_gradient(
    cotangent: mx.array, kernels: mx.array, size: Sequence[int], stride: Pair, padding: PaddingPairs, dilation: Pair
) -> mx.array:
    """The gradient (N, H, W, C) of the input, from the output's (N, H', W', C).

    As in `unfold.input_gradient`: the input positions s·q + r of one r are a convolution of the cotangent with the taps
    r + s·m, flipped.
    """
    if max(stride) > 1 and max(dilation) > 1:
        kernels, dilation = spread(kernels, dilation), (1, 1)
    n, kh, kw, channels = kernels.shape
    first = [padding[axis][0] // stride[axis] for axis in (0, 1)]
    last = [(padding[axis][0] + size[axis] - 1) // stride[axis] for axis in (0, 1)]
    counts = [last[axis] + 1 - first[axis] for axis in (0, 1)]
    phases = []
    for row in range(stride[0]):
        for column in range(stride[1]):
            taps = kernels[:, row :: stride[0], column :: stride[1]][:, ::-1, ::-1]
            around = [
                ((taps.shape[1 + axis] - 1) * dilation[axis] - first[axis], last[axis] + 1 - cotangent.shape[1 + axis])
                for axis in (0, 1)
            ]
            if 0 in taps.shape:
                phases.append(mx.zeros((n, *counts, channels), dtype=cotangent.dtype))
            else:
                phases.append(forward(cotangent, taps, (1, 1), (around[0], around[1]), dilation))
    if len(phases) == 1:
        return phases[0]
    gradient = mx.stack(phases, axis=3).reshape(n, *counts, *stride, channels).transpose(0, 1, 3, 2, 4, 5)
    gradient = gradient.reshape(n, counts[0] * stride[0], counts[1] * stride[1], channels)
    top, left = (padding[axis][0] - first[axis] * stride[axis] for axis in (0, 1))
    return gradient[:, top : top + size[0], left : left + size[1]]


def _shifts(
    x: mx.array, kernel: Sequence[int], stride: Pair, padding: PaddingPairs, dilation: Pair
) -> Iterator[tuple[int, int, mx.array]]:
    """For each tap, its row and column, and what it sees at each position: (N, H', W', C)."""
    x = pad(x, padding)
    rows, columns = output_size(x.shape[1:3], kernel, stride, ((0, 0), (0, 0)), dilation)
    height, width = (rows - 1) * stride[0] + 1, (columns - 1) * stride[1] + 1
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            yield i, j, x[:, top : top + height : stride[0], left : left + width : stride[1]]


@cache
def depthwise_conv2d(stride: Pair, padding: PaddingPairs, dilation: Pair) -> Callable[[mx.array, mx.array], Any]:
    """The function (x, kernels) -> output of this geometry, with its own gradients."""

    @mx.custom_function
    def conv(x: mx.array, kernels: mx.array) -> mx.array:
        return forward(x, kernels, stride, padding, dilation)

    @conv.vjp
    def gradients(primals: tuple, cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
        x, kernels = primals
        return (
            input_gradient(cotangent, kernels, x.shape[1:3], stride, padding, dilation),
            kernel_gradient(x, cotangent, kernels.shape[1:3], stride, padding, dilation),
        )

    return conv
