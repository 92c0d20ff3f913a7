"""Gradients of the convolution with a kernel of its own for every example, as products of unfolded patches.

MLX's CPU backend computes the input gradient of a strided or grouped convolution by a naive loop, and the gradient of
an unfolding is a scatter; on a GPU the weight gradient of a grouped convolution becomes one with the output as its
kernel. None of these is used here. Patches are made anew, so none are kept from the forward pass.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from condconv_mlx.functional.geometry import Geometry, PaddingPairs
from condconv_mlx.functional.patches import (
    examples_to_groups,
    groups_to_examples,
    kernels_of_groups,
    matrices,
    patches,
    shifts,
    spread,
)
from condconv_mlx.functional.strategies import STRATEGIES, shift


@cache
def with_gradients(strategy: str, geometry: Geometry) -> Callable[[mx.array, mx.array], Any]:
    """The function (x, kernels) -> output by a strategy, with the gradients of this module."""

    @mx.custom_function
    def conv(x: mx.array, kernels: mx.array) -> mx.array:
        return STRATEGIES[strategy](x, kernels, geometry)

    @conv.vjp
    def gradients(primals: tuple, cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
        x, kernels = primals
        return (
            input_gradient(x.shape, kernels, cotangent, geometry),
            kernel_gradient(x, kernels.shape, cotangent, geometry),
        )

    return conv


def kernel_gradient(x: mx.array, kernels_shape: Sequence[int], cotangent: mx.array, geometry: Geometry) -> mx.array:
    """The gradient (N, O, kh, kw, Cin / groups) of the kernels, from the output's (N, H', W', O)."""
    m, _, *kernel, depth = kernels_shape
    groups = geometry.groups
    if groups == x.shape[3] == kernels_shape[1]:
        taps = [(shifted * cotangent).sum(axis=(1, 2)) for _, _, shifted in shifts(x, kernel, geometry)]
        return mx.stack(taps, axis=2).reshape(kernels_shape)
    if groups > 1:
        x, cotangent = groups_to_examples(x, groups), groups_to_examples(cotangent, groups)
        m, geometry = m * groups, geometry.without_groups()
    seen = patches(x, kernel, geometry)
    return (matrices(cotangent, m, tail=1).swapaxes(1, 2) @ matrices(seen, m, tail=3)).reshape(kernels_shape)


def input_gradient(x_shape: Sequence[int], kernels: mx.array, cotangent: mx.array, geometry: Geometry) -> mx.array:
    """The gradient (N, H, W, Cin) of the input, from the output's (N, H', W', O).

    An input position s·q + r (r < s, the stride) is reached from the output positions q - m by the taps r + s·m.
    So the positions of one r are a convolution of the cotangent with the flipped taps of that r, and no zeros have to
    be inserted between its rows. Only positions inside the unpadded input are computed, q from `first` to `last`.
    """
    stride, padding, dilation, groups = geometry
    if max(stride) > 1 and max(dilation) > 1:
        kernels, dilation = spread(kernels, dilation), (1, 1)
    first = [padding[axis][0] // stride[axis] for axis in (0, 1)]
    last = [(padding[axis][0] + x_shape[1 + axis] - 1) // stride[axis] for axis in (0, 1)]

    def around(taps: Sequence[int]) -> PaddingPairs:
        height, width = (
            ((taps[axis] - 1) * dilation[axis] - first[axis], last[axis] + 1 - cotangent.shape[1 + axis])
            for axis in (0, 1)
        )
        return height, width

    if groups == x_shape[3] == kernels.shape[1]:
        gradient = _depthwise_phases(kernels, cotangent, geometry._replace(dilation=dilation), around)
    elif groups > 1:
        by_group = (kernels_of_groups(kernels, groups), groups_to_examples(cotangent, groups))
        gradient = examples_to_groups(_phases(*by_group, geometry._replace(dilation=dilation), around), groups)
    else:
        gradient = _phases(kernels, cotangent, geometry._replace(dilation=dilation), around)
    if stride == (1, 1):
        return gradient
    top, left = (padding[axis][0] - first[axis] * stride[axis] for axis in (0, 1))
    return gradient[:, top : top + x_shape[1], left : left + x_shape[2]]


def _phases(
    kernels: mx.array, cotangent: mx.array, geometry: Geometry, around: Callable[[Sequence[int]], PaddingPairs]
) -> mx.array:
    """All positions r of a stride at once: one product whose columns are (r, Cin)."""
    stride, _, dilation, _ = geometry
    m, out, *kernel, channels = kernels.shape
    taps = [-(-kernel[axis] // stride[axis]) for axis in (0, 1)]
    short = [taps[axis] * stride[axis] - kernel[axis] for axis in (0, 1)]
    if any(short):
        kernels = mx.pad(kernels, [(0, 0), (0, 0), (0, short[0]), (0, short[1]), (0, 0)])
    kernels = kernels.reshape(m, out, taps[0], stride[0], taps[1], stride[1], channels)
    kernels = kernels[:, :, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5, 6).reshape(m, taps[0] * taps[1] * out, -1)
    seen = patches(cotangent, taps, Geometry((1, 1), around(taps), dilation))
    n, rows, columns = seen.shape[:3]
    return _interleave((matrices(seen, m, tail=3) @ kernels).reshape(n, rows, columns, *stride, channels))


def _depthwise_phases(
    kernels: mx.array, cotangent: mx.array, geometry: Geometry, around: Callable[[Sequence[int]], PaddingPairs]
) -> mx.array:
    """The positions r of a stride one after the other, by `shift`."""
    stride, _, dilation, groups = geometry
    phases = []
    for row in range(stride[0]):
        for column in range(stride[1]):
            taps = kernels[:, :, row :: stride[0], column :: stride[1]][:, :, ::-1, ::-1]
            kernel = (max(taps.shape[2], 1), max(taps.shape[3], 1))
            if 0 in taps.shape:  # a stride beyond the kernel leaves positions that no tap reaches
                taps = mx.zeros((*taps.shape[:2], *kernel, 1), dtype=taps.dtype)
            phases.append(shift(cotangent, taps, Geometry((1, 1), around(kernel), dilation, groups)))
    n, rows, columns, channels = phases[0].shape
    return _interleave(mx.stack(phases, axis=3).reshape(n, rows, columns, *stride, channels))


def _interleave(phases: mx.array) -> mx.array:
    """(N, Q, P, s, t, C) -> (N, Q·s, P·t, C)."""
    n, rows, columns, *stride, channels = phases.shape
    return phases.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * stride[0], columns * stride[1], channels)
