"""Gradients of the convolution with a kernel of its own for every example, as products of unfolded patches.

MLX's CPU backend computes the input gradient of a strided or grouped convolution by a naive loop, and the gradient of
an unfolding is a scatter; on a GPU the weight gradient of a grouped convolution becomes one with the output as its
kernel. None of these is used here. Patches and mixed kernels are made anew, so none are kept from the forward pass.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import mlx.core as mx

from condconv_mlx.functional.geometry import Geometry, PaddingPairs, Pair
from condconv_mlx.functional.mixing import mix_experts
from condconv_mlx.functional.patches import (
    examples_to_groups,
    groups_to_examples,
    kernels_of_groups,
    matrices,
    patch_matrices,
    patches,
    row_matrices,
    shifts,
    spread,
    sum_of_products,
    widen,
)
from condconv_mlx.functional.splitting import GRADIENTS, convolve, convolve_mixed, multiplications
from condconv_mlx.functional.strategies import shift, taps
from condconv_mlx.functional.streams import at_once, cut, parts


@cache
def with_gradients(strategy: str, geometry: Geometry) -> Callable[[mx.array, mx.array], Any]:
    """The function (x, kernels) -> output by a strategy, with the gradients of this module.

    The kernels (N, O, kh, kw, Cin / groups) may also be (1, ...), one that serves all examples.
    """

    @mx.custom_function
    def conv(x: mx.array, kernels: mx.array) -> mx.array:
        return convolve(strategy, x, kernels, geometry)

    @conv.vjp
    def gradients(primals: tuple, cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
        x, kernels = primals
        count = parts(multiplications(x, kernels.shape[1:], geometry), GRADIENTS)
        if count == 1 or len(x) < count:
            of_x, of_kernels = _at_once_if(
                count > 1,
                partial(input_gradient, x.shape, kernels, cotangent, geometry, strategy=strategy),
                partial(kernel_gradient, x, kernels.shape, cotangent, geometry, strategy),
            )
            return of_x, of_kernels
        shared = len(kernels) == 1

        def of_part(n: slice) -> tuple[mx.array, mx.array]:
            own = kernels if shared else kernels[n]
            return (
                input_gradient(x[n].shape, own, cotangent[n], geometry, strategy=strategy),
                kernel_gradient(x[n], own.shape, cotangent[n], geometry, strategy),
            )

        of_x, of_kernels = zip(*at_once([partial(of_part, n) for n in cut(len(x), count)]), strict=True)
        return mx.concatenate(list(of_x)), _sum(of_kernels) if shared else mx.concatenate(list(of_kernels))

    return conv


@cache
def mixed_with_gradients(strategy: str, geometry: Geometry) -> Callable[[mx.array, mx.array, mx.array], Any]:
    """The function (x, routing weights, experts) -> output by a strategy, with the gradients of this module."""

    @mx.custom_function
    def conv(x: mx.array, routing_weights: mx.array, experts: mx.array) -> mx.array:
        return convolve_mixed(strategy, x, routing_weights, experts, geometry)

    @conv.vjp
    def gradients(primals: tuple, cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        x, routing_weights, experts = primals
        count = parts(multiplications(x, experts.shape[1:], geometry), GRADIENTS)

        def of_input(n: slice) -> mx.array:
            return input_gradient(x[n].shape, experts, cotangent[n], geometry, routing_weights[n], strategy)

        def of_mixture(n: slice) -> tuple[mx.array, mx.array]:
            return _mixture_gradients(x[n], routing_weights[n], experts, cotangent[n], geometry, strategy)

        everything = slice(None)
        if count == 1 or len(x) < count:
            of_x, of_both = _at_once_if(count > 1, partial(of_input, everything), partial(of_mixture, everything))
            return of_x, *of_both
        each = at_once([lambda n=n: (of_input(n), *of_mixture(n)) for n in cut(len(x), count)])  # type: ignore[misc]
        of_x, of_weights, of_experts = zip(*each, strict=True)
        return mx.concatenate(list(of_x)), mx.concatenate(list(of_weights)), _sum(of_experts)

    return conv


def _at_once_if(worth_it: bool, *calls: Callable[[], Any]) -> list[Any]:
    return at_once(calls) if worth_it else [call() for call in calls]


def _sum(arrays: Sequence[mx.array]) -> mx.array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def _mixture_gradients(
    x: mx.array,
    routing_weights: mx.array,
    experts: mx.array,
    cotangent: mx.array,
    geometry: Geometry,
    strategy: str,
) -> tuple[mx.array, mx.array]:
    """The gradients of routing weights (N, E) and experts (E, O, kh, kw, Cin / groups)."""
    n, e = routing_weights.shape
    of_weights, of_experts = [], []
    for of_kernels, part in _kernel_gradients(x, (n, *experts.shape[1:]), cotangent, geometry, strategy):
        flat = of_kernels.reshape(n, -1)
        piece = experts[:, :, part]
        # This way round, a BLAS is up to twice as fast on rows this long.
        of_weights.append((piece.reshape(e, -1) @ flat.T).T)
        of_experts.append((routing_weights.astype(x.dtype).T @ flat).reshape(piece.shape))
    return _sum(of_weights).astype(routing_weights.dtype), _joined(of_experts)


def kernel_gradient(
    x: mx.array, kernels_shape: Sequence[int], cotangent: mx.array, geometry: Geometry, strategy: str = "unfold"
) -> mx.array:
    """The gradient (N, O, kh, kw, Cin / groups) of the kernels, from the output's (N, H', W', O).

    With a shape of (1, ...), of one kernel that serves all examples.
    """
    return _joined([gradient for gradient, _ in _kernel_gradients(x, kernels_shape, cotangent, geometry, strategy)])


def _joined(pieces: Sequence[mx.array]) -> mx.array:
    return pieces[0] if len(pieces) == 1 else mx.concatenate(list(pieces), axis=2)


def _kernel_gradients(
    x: mx.array, kernels_shape: Sequence[int], cotangent: mx.array, geometry: Geometry, strategy: str
) -> list[tuple[mx.array, slice]]:
    """The gradient in pieces (N, O, rows, kw, Cin / groups), and which rows of the kernel they are."""
    m, out, *kernel, depth = kernels_shape
    groups, everything = geometry.groups, slice(None)
    if geometry.is_depthwise(x.shape[3], out):
        return [(_depthwise_kernel_gradient(x, kernels_shape, cotangent, geometry, strategy), everything)]
    if groups > 1:
        x, cotangent = groups_to_examples(x, groups), groups_to_examples(cotangent, groups)
        geometry = geometry.without_groups()
    # One kernel for all examples takes one product over all their positions.
    if strategy != "rows" or len(x) > m * groups:
        pieces, rows = patch_matrices(x, kernel, geometry, m * groups), [everything]
    else:
        pieces, rows = row_matrices(x, kernel, geometry), [slice(i, i + 1) for i in range(kernel[0])]
    turned = matrices(cotangent, m * groups, tail=1).swapaxes(1, 2)
    shape = (m, out, kernel[0] // len(rows), kernel[1], depth)
    return [((turned @ piece).reshape(shape), row) for piece, row in zip(pieces, rows, strict=True)]


def _depthwise_kernel_gradient(
    x: mx.array, kernels_shape: Sequence[int], cotangent: mx.array, geometry: Geometry, strategy: str
) -> mx.array:
    n, channels, *kernel, _ = kernels_shape
    if strategy == "taps":
        # One kernel may serve all examples.
        of_taps = (patches(x, kernel, geometry) * cotangent[:, :, :, None, None]).sum(axis=(1, 2))
        of_taps = of_taps.sum(axis=0, keepdims=True) if n == 1 else of_taps
        return of_taps.transpose(0, 3, 1, 2).reshape(kernels_shape)
    cotangent = widen(cotangent, kernel, geometry)
    positions = tuple(range(0 if n == 1 else 1, cotangent.ndim - 1))
    sums = [(shifted * cotangent).sum(axis=positions) for _, _, shifted in shifts(x, kernel, geometry)]
    return mx.stack(sums, axis=-1).reshape(kernels_shape)


def input_gradient(
    x_shape: Sequence[int],
    kernels: mx.array,
    cotangent: mx.array,
    geometry: Geometry,
    routing_weights: mx.array | None = None,
    strategy: str = "unfold",
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

    def around(kernel: Sequence[int]) -> PaddingPairs:
        height, width = (
            ((kernel[axis] - 1) * dilation[axis] - first[axis], last[axis] + 1 - cotangent.shape[1 + axis])
            for axis in (0, 1)
        )
        return height, width

    depthwise = geometry.is_depthwise(x_shape[3], kernels.shape[1])
    if groups > 1 and not depthwise:
        kernels, cotangent = kernels_of_groups(kernels, groups), groups_to_examples(cotangent, groups)
    phases = []
    for row in range(stride[0]):
        for column in range(stride[1]):
            turned = kernels[:, :, row :: stride[0], column :: stride[1]][:, :, ::-1, ::-1]
            where = Geometry((1, 1), around(turned.shape[2:4]), dilation)
            if 0 in turned.shape:  # a stride beyond the kernel leaves positions that no tap reaches
                channels = x_shape[3] if depthwise else kernels.shape[4]
                phases.append(mx.zeros((len(cotangent), *size, channels), dtype=cotangent.dtype))
            elif depthwise:
                phases.append((taps if strategy == "taps" else shift)(cotangent, turned, where._replace(groups=groups)))
            else:
                phases.append(_product(cotangent, turned, where, routing_weights, strategy))
    gradient = phases[0]
    if stride != (1, 1):
        top, left = (padding[axis][0] - first[axis] * stride[axis] for axis in (0, 1))
        gradient = _interleave(phases, stride)[:, top : top + x_shape[1], left : left + x_shape[2]]
    return examples_to_groups(gradient, groups) if groups > 1 and not depthwise else gradient


def _product(
    cotangent: mx.array, turned: mx.array, where: Geometry, routing_weights: mx.array | None, strategy: str
) -> mx.array:
    """The cotangent (N, H', W', O) convolved with turned kernels (N or E, O, kh, kw, Cin) -> (N, Q, P, Cin)."""
    m, _, *kernel, channels = turned.shape
    turned = turned.transpose(0, 2, 3, 1, 4)
    if routing_weights is not None:
        n, e = routing_weights.shape
        turned = mix_experts(routing_weights, turned.reshape(e, -1))
        m = m // e * n
    if strategy == "rows":
        of_rows = turned.reshape(m, kernel[0], -1, channels).swapaxes(2, 3)
        product = sum_of_products(row_matrices(cotangent, kernel, where), [of_rows[:, i] for i in range(kernel[0])])
    else:
        product = sum_of_products(
            patch_matrices(cotangent, kernel, where, m), [turned.reshape(m, -1, channels).swapaxes(1, 2)]
        )
    return product.reshape(len(cotangent), *where.output_size(cotangent.shape[1:3], kernel), channels)


def _interleave(phases: list[mx.array], stride: Pair) -> mx.array:
    """One (N, Q, P, C) for each position of a stride -> (N, Q·s, P·t, C)."""
    n, rows, columns, channels = phases[0].shape
    together = mx.stack(phases, axis=3).reshape(n, rows, columns, *stride, channels)
    return together.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * stride[0], columns * stride[1], channels)
