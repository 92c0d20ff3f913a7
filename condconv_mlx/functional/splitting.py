"""A convolution cut into parts that are computed at once, each on a CPU core of its own."""

import math
from collections.abc import Callable, Sequence

import mlx.core as mx

from condconv_mlx.functional.geometry import Geometry
from condconv_mlx.functional.mixing import mix_experts
from condconv_mlx.functional.strategies import STRATEGIES
from condconv_mlx.functional.streams import at_once, cut, parts

# Multiplications from which cutting pays. On two cores of an AMD EPYC, in one piece and in two, ms: forward, 7 million
# 0.27 and 0.27, 9 0.37 and 0.34, 15 0.35 and 0.34, 19 0.60 and 0.42, 29 0.66 and 0.47; with gradients, 7 million 1.04
# and 0.95, 15 1.14 and 0.91, 19 1.90 and 1.36. Waking another thread, and waiting for it, takes 0.05 to 0.08.
FORWARD = 15e6
GRADIENTS = 5e6
# A shifted and weighed number takes as long as this many multiplications of a product.
_DEPTHWISE = 8

# Those that compute a few rows of an output from a few rows of the image.
_LOCAL = ("unfold", "rows", "taps", "shift")

# Gives the kernels of some examples and output channels.
Kernels = Callable[[slice, slice], mx.array]
_ALL = slice(None)


def convolve(strategy: str, x: mx.array, kernels: mx.array, geometry: Geometry) -> mx.array:
    """x (N, H, W, Cin), kernels (N, O, kh, kw, Cin / groups) or (1, ...) -> (N, H', W', O), by a strategy."""

    def some(n: slice, out: slice) -> mx.array:
        return kernels[:, out] if len(kernels) == 1 else kernels[n, out]

    return _convolve(strategy, x, kernels.shape[1:], some, geometry)


def convolve_mixed(
    strategy: str, x: mx.array, routing_weights: mx.array, experts: mx.array, geometry: Geometry
) -> mx.array:
    """x (N, H, W, Cin), (N, E), experts (E, O, kh, kw, Cin / groups) -> (N, H', W', O), by a strategy."""

    def some(n: slice, out: slice) -> mx.array:
        if strategy == "rows" and len(x) >= len(experts):
            # Rows of the kernels then lie in one piece, each, and need not be copied out of the mixture.
            return mix_experts(routing_weights[n], experts[:, out].swapaxes(1, 2)).swapaxes(1, 2)
        return mix_experts(routing_weights[n], experts[:, out])

    return _convolve(strategy, x, experts.shape[1:], some, geometry)


def multiplications(x: mx.array, kernel: Sequence[int], geometry: Geometry) -> int:
    """Of a convolution of x (N, H, W, Cin) with kernels (O, kh, kw, Cin / groups), or what takes as long."""
    count = len(x) * math.prod(geometry.output_size(x.shape[1:3], kernel[1:3])) * math.prod(kernel)
    return count * _DEPTHWISE if geometry.is_depthwise(x.shape[3], kernel[0]) else count


def _convolve(strategy: str, x: mx.array, kernel: Sequence[int], kernels: Kernels, geometry: Geometry) -> mx.array:
    run = STRATEGIES[strategy]
    count = parts(multiplications(x, kernel, geometry), FORWARD) if strategy in _LOCAL else 1
    if 1 < count <= len(x):
        calls = [lambda n=n: run(x[n], kernels(n, _ALL), geometry) for n in cut(len(x), count)]
        return mx.concatenate(at_once(calls))
    size = geometry.output_size(x.shape[1:3], kernel[1:3])
    if 1 < count <= kernel[0] and tuple(kernel[1:3]) == (1, 1) and geometry.groups == 1:
        # Mixing, which is as much work as the product, is cut with it.
        calls = [lambda out=out: run(x, kernels(_ALL, out), geometry) for out in cut(kernel[0], count)]
        return mx.concatenate(at_once(calls), axis=3)
    if 1 < count <= size[0]:
        mixed = kernels(_ALL, _ALL)
        calls = [lambda rows=rows: run(x, mixed, _of_rows(x, kernel, geometry, rows)) for rows in cut(size[0], count)]
        return mx.concatenate(at_once(calls), axis=1)
    return run(x, kernels(_ALL, _ALL), geometry)


def _of_rows(x: mx.array, kernel: Sequence[int], geometry: Geometry, rows: slice) -> Geometry:
    """The geometry that gives these rows of the output: what the image has beyond them is padding taken away."""
    stride, ((top, _), sides), dilation, _ = geometry
    above = rows.start * stride[0] - top
    below = (rows.stop - 1) * stride[0] + (kernel[1] - 1) * dilation[0] + 1 - top
    return geometry._replace(padding=((-above, below - x.shape[1]), sides))
