"""The convolution as unfolded patches times kernels, with gradients of its own.

MLX's CPU backend computes several gradients of a convolution by a naive loop, and its gradient of an unfolding is a
scatter. Here all three products (output, gradient of the input, gradient of the kernels) are matrix products of
unfolded patches. The patches are made anew in the backward pass, so none are kept.

Kernels are (M, O, kh, kw, C), where M is the batch size N (one kernel an example) or 1 (a kernel shared by all).
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from condconv_mlx.functional.geometry import PaddingPairs, Pair, output_size


def patches(x: mx.array, kernel: Sequence[int], stride: Pair, padding: PaddingPairs, dilation: Pair) -> mx.array:
    """x (N, H, W, C) -> (N, H', W', kh, kw, C): what the kernel sees at each position. A padding may be negative."""
    x = pad(x, padding)
    n, height, width, channels = x.shape
    rows, columns = output_size((height, width), kernel, stride, ((0, 0), (0, 0)), dilation)
    if tuple(kernel) == (1, 1):
        return x[:, :: stride[0], :: stride[1], None, None, :]
    row = width * channels
    return mx.as_strided(
        x,
        (n, rows, columns, *kernel, channels),
        (height * row, stride[0] * row, stride[1] * channels, dilation[0] * row, dilation[1] * channels, 1),
    )


def pad(x: mx.array, padding: PaddingPairs) -> mx.array:
    """x (N, H, W, C) with zeros around; a negative padding takes rows or columns away."""
    (top, bottom), (left, right) = padding
    if min(top, bottom, left, right) < 0:
        height, width = x.shape[1:3]
        x = x[:, max(-top, 0) : height + min(bottom, 0), max(-left, 0) : width + min(right, 0)]
    ahead, behind = (max(top, 0), max(left, 0)), (max(bottom, 0), max(right, 0))
    if not any(ahead + behind):
        return x
    return mx.pad(x, [(0, 0), (ahead[0], behind[0]), (ahead[1], behind[1]), (0, 0)])


def forward(x: mx.array, kernels: mx.array, stride: Pair, padding: PaddingPairs, dilation: Pair) -> mx.array:
    """x (N, H, W, C), kernels (M, O, kh, kw, C) -> (N, H', W', O)."""
    m, out = kernels.shape[:2]
    seen = patches(x, kernels.shape[2:4], stride, padding, dilation)
    n, rows, columns = seen.shape[:3]
    product = _rows(seen, m) @ kernels.reshape(m, out, -1).swapaxes(1, 2)
    return product.reshape(n, rows, columns, out)


def kernel_gradient(
    x: mx.array,
    cotangent: mx.array,
    kernels_shape: tuple[int, ...],
    stride: Pair,
    padding: PaddingPairs,
    dilation: Pair,
) -> mx.array:
    """The gradient (M, O, kh, kw, C) of the kernels, from the output's (N, H', W', O)."""
    m = kernels_shape[0]
    seen = patches(x, kernels_shape[2:4], stride, padding, dilation)
    return (_rows(cotangent, m, tail=1).swapaxes(1, 2) @ _rows(seen, m)).reshape(kernels_shape)


def input_gradient(
    cotangent: mx.array, kernels: mx.array, size: Sequence[int], stride: Pair, padding: PaddingPairs, dilation: Pair
) -> mx.array:
    """The gradient (N, H, W, C) of the input, from the output's (N, H', W', O).

    An input position s·q + r (r < s, the stride) is reached from the output positions q - m by the taps r + s·m.
    So the s·s positions that share a q are one convolution of the cotangent, with a kernel of ceil(k / s) taps and
    s·s·C channels, and no zero has to be inserted between its rows.
    """
    if max(stride) > 1 and max(dilation) > 1:
        kernels, dilation = spread(kernels, dilation), (1, 1)
    m, out, *kernel, channels = kernels.shape
    taps = [-(-kernel[axis] // stride[axis]) for axis in (0, 1)]
    short = [taps[axis] * stride[axis] - kernel[axis] for axis in (0, 1)]
    if any(short):
        kernels = mx.pad(kernels, [(0, 0), (0, 0), (0, short[0]), (0, short[1]), (0, 0)])
    kernels = kernels.reshape(m, out, taps[0], stride[0], taps[1], stride[1], channels)
    kernels = kernels[:, :, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5, 6)
    kernels = kernels.reshape(m, taps[0] * taps[1] * out, -1)

    # Only the positions inside the unpadded input are computed: q from `first` to `last`.
    first = [padding[axis][0] // stride[axis] for axis in (0, 1)]
    last = [(padding[axis][0] + size[axis] - 1) // stride[axis] for axis in (0, 1)]
    around = [
        ((taps[axis] - 1) * dilation[axis] - first[axis], last[axis] + 1 - cotangent.shape[1 + axis]) for axis in (0, 1)
    ]
    seen = patches(cotangent, (taps[0], taps[1]), (1, 1), (around[0], around[1]), dilation)
    n, rows, columns = seen.shape[:3]
    gradient = (_rows(seen, m) @ kernels).reshape(n, rows, columns, *stride, channels)
    if max(stride) > 1:
        gradient = gradient.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * stride[0], columns * stride[1], channels)
        top, left = (padding[axis][0] - first[axis] * stride[axis] for axis in (0, 1))
        return gradient[:, top : top + size[0], left : left + size[1]]
    return gradient.reshape(n, rows, columns, channels)


def _rows(x: mx.array, m: int, tail: int = 3) -> mx.array:
    """The last `tail` axes as rows, in `m` matrices: (N, H', W', ...) -> (m, N·H'·W' / m, K)."""
    length = 1
    for size in x.shape[x.ndim - tail :]:
        length *= size
    return x.reshape(m, -1, length)


def spread(kernels: mx.array, dilation: Pair) -> mx.array:
    """Kernels (..., kh, kw, C) without dilation: zeros between the taps."""
    *lead, kh, kw, channels = kernels.shape
    between = [(0, 0)] * len(lead) + [(0, 0), (0, dilation[0] - 1), (0, 0), (0, dilation[1] - 1), (0, 0)]
    wide = mx.pad(kernels[..., :, None, :, None, :], between)
    wide = wide.reshape(*lead, kh * dilation[0], kw * dilation[1], channels)
    return wide[..., : (kh - 1) * dilation[0] + 1, : (kw - 1) * dilation[1] + 1, :]


@cache
def unfolded_conv2d(stride: Pair, padding: PaddingPairs, dilation: Pair) -> Callable[[mx.array, mx.array], Any]:
    """The function (x, kernels) -> output of this geometry, with its own gradients."""

    @mx.custom_function
    def conv(x: mx.array, kernels: mx.array) -> mx.array:
        return forward(x, kernels, stride, padding, dilation)

    @conv.vjp
    def gradients(primals: tuple, cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
        x, kernels = primals
        return (
            input_gradient(cotangent, kernels, x.shape[1:3], stride, padding, dilation),
            kernel_gradient(x, cotangent, kernels.shape, stride, padding, dilation),
        )

    return conv
