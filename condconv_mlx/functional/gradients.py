"""Gradients of the convolution with a kernel of its own for every example, as products of unfolded patches.

MLX's CPU backend computes the input gradient of a strided or grouped convolution by a naive loop, and the gradient of
an unfolding is a scatter; on a GPU the weight gradient of a grouped convolution becomes one with the output as its
kernel. None of these is used here. Patches and mixed kernels are made anew, so none are kept from the forward pass.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from condconv_mlx.functional.geometry import Geometry, PaddingPairs, Pair
from condconv_mlx.functional.mixing import mix_experts
from condconv_mlx.functional.patches import (
    examples_to_groups,
    groups_to_examples,
    kernels_of_groups,
    matrices,
    patches,
    shifts,
    spread,
    widen,
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


@cache
def mixed_with_gradients(strategy: str, geometry: Geometry) -> Callable[[mx.array, mx.array, mx.array], Any]:
    """The function (x, routing weights, experts) -> output by a strategy, with the gradients of this module."""

    @mx.custom_function
    def conv(x: mx.array, routing_weights: mx.array, experts: mx.array) -> mx.array:
        return STRATEGIES[strategy](x, mix_experts(routing_weights, experts), geometry)

    @conv.vjp
    def gradients(primals: tuple, cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        x, routing_weights, experts = primals
        n, e = routing_weights.shape
        of_kernels = kernel_gradient(x, (n, *experts.shape[1:]), cotangent, geometry).reshape(n, -1)
        return (
            input_gradient(x.shape, experts, cotangent, geometry, routing_weights),
            # This way round, a BLAS is up to twice as fast on rows this long.
            (experts.reshape(e, -1) @ of_kernels.T).T.astype(routing_weights.dtype),
            (routing_weights.astype(x.dtype).T @ of_kernels).reshape(experts.shape),
        )

    return conv


def kernel_gradient(x: mx.array, kernels_shape: Sequence[int], cotangent: mx.array, geometry: Geometry) -> mx.array:
    """The gradient (N, O, kh, kw, Cin / groups) of the kernels, from the output's (N, H', W', O)."""
    m, _, *kernel, depth = kernels_shape
    groups = geometry.groups
    if geometry.is_depthwise(x.shape[3], kernels_shape[1]):
        return _depthwise_kernel_gradient(x, kernels_shape, cotangent, geometry)
    if groups > 1:
        x, cotangent = groups_to_examples(x, groups), groups_to_examples(cotangent, groups)
        m, geometry = m * groups, geometry.without_groups()
    seen = patches(x, kernel, geometry)
    return (matrices(cotangent, m, tail=1).swapaxes(1, 2) @ matrices(seen, m, tail=3)).reshape(kernels_shape)


def _depthwise_kernel_gradient(
    x: mx.array, kernels_shape: Sequence[int], cotangent: mx.array, geometry: Geometry
) -> mx.array:
    n, _, *kernel, _ = kernels_shape
    cotangent = widen(cotangent, kernel, geometry)
    # One kernel may serve all examples.
    positions = tuple(range(0 if n == 1 else 1, cotangent.ndim - 1))
    taps = [(shifted * cotangent).sum(axis=positions) for _, _, shifted in shifts(x, kernel, geometry)]
    return mx.stack(taps, axis=-1).reshape(kernels_shape)


def input_gradient(
    x_shape: Sequence[int],
    kernels: mx.array,
    cotangent: mx.array,
    geometry: Geometry,
    routing_weights: mx.array | None = None,
) -> mx.array:
    """The gradient (N, H, W, Cin) of the input, from the output's (N, H', W', O).

    An input position s·q + r (r < s, the stride) is reached from the output positions q - m by the taps r + s·m.
    So the positions of one r are a convolution of the cotangent with the flipped taps of that r, and no zeros have to
    be inserted between its rows. Only positions inside the unpadded input are computed, q from `first` to `last`.

    With `routing_weights` (N, E), `kernels` are the experts (E, O, kh, kw, Cin / groups). Where there are fewer
    experts than examples, it is the experts that are turned around, and then mixed.
    """
    stride, padding, dilation, groups = geometry
    if routing_weights is not None and (len(routing_weights) <= len(kernels) or groups == x_shape[3]):
        kernels, routing_weights = mix_experts(routing_weights, kernels), None
    if max(stride) > 1 and max(dilation) > 1:
        kernels, dilation = spread(kernels, dilation), (1, 1)
    first = [padding[axis][0] // stride[axis] for axis in (0, 1)]
    last = [(padding[axis][0] + x_shape[1 + axis] - 1) // stride[axis] for axis in (0, 1)]
    size = (last[0] + 1 - first[0], last[1] + 1 - first[1])

    def around(taps: Sequence[int]) -> PaddingPairs:
        height, width = (
            ((taps[axis] - 1) * dilation[axis] - first[axis], last[axis] + 1 - cotangent.shape[1 + axis])
            for axis in (0, 1)
        )
        return height, width

    depthwise = geometry.is_depthwise(x_shape[3], kernels.shape[1])
    if groups > 1 and not depthwise:
        kernels, cotangent = kernels_of_groups(kernels, groups), groups_to_examples(cotangent, groups)
    phases = []
    for row in range(stride[0]):
        for column in range(stride[1]):
            taps = kernels[:, :, row :: stride[0], column :: stride[1]][:, :, ::-1, ::-1]
            where = Geometry((1, 1), around(taps.shape[2:4]), dilation)
            if 0 in taps.shape:  # a stride beyond the kernel leaves positions that no tap reaches
                channels = x_shape[3] if depthwise else kernels.shape[4]
                phases.append(mx.zeros((len(cotangent), *size, channels), dtype=cotangent.dtype))
            elif depthwise:
                phases.append(shift(cotangent, taps, where._replace(groups=groups)))
            else:
                phases.append(_product(cotangent, taps, where, routing_weights))
    gradient = phases[0]
    if stride != (1, 1):
        top, left = (padding[axis][0] - first[axis] * stride[axis] for axis in (0, 1))
        gradient = _interleave(phases, stride)[:, top : top + x_shape[1], left : left + x_shape[2]]
    return examples_to_groups(gradient, groups) if groups > 1 and not depthwise else gradient


def _product(cotangent: mx.array, taps: mx.array, where: Geometry, routing_weights: mx.array | None) -> mx.array:
    """The cotangent (N, H', W', O) convolved with turned taps (N or E, O, kh, kw, Cin) -> (N, Q, P, Cin)."""
    m, _, *kernel, channels = taps.shape
    turned = taps.transpose(0, 2, 3, 1, 4)
    if routing_weights is not None:
        n, e = routing_weights.shape
        turned = mix_experts(routing_weights, turned.reshape(e, -1))
        m = m // e * n
    seen = patches(cotangent, kernel, where)
    product = matrices(seen, m, tail=3) @ turned.reshape(m, -1, channels)
    return product.reshape(*seen.shape[:3], channels)


def _interleave(phases: list[mx.array], stride: Pair) -> mx.array:
    """One (N, Q, P, C) for each position of a stride -> (N, Q·s, P·t, C)."""
    n, rows, columns, channels = phases[0].shape
    together = mx.stack(phases, axis=3).reshape(n, rows, columns, *stride, channels)
    return together.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * stride[0], columns * stride[1], channels)
