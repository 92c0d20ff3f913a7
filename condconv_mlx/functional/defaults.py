"""Which strategy serves a convolution until `condconv-mlx tune` has measured it: a table by device and shape."""

import math
from collections.abc import Callable
from typing import NamedTuple

from condconv_mlx.functional.geometry import Geometry
from condconv_mlx.functional.strategies import STRATEGIES

OUTPUTS = "outputs"


class Case(NamedTuple):
    """One convolution with a kernel of its own for every example, as far as its speed depends on it.

    Attributes:
        x: (N, H, W, Cin).
        kernel: (O, kh, kw, Cin / groups).
        experts: how many are mixed, or None where each example brings its kernel.
        geometry: stride, padding, dilation and groups.
        dtype: of all arrays, `"float32"`.
        training: with our own gradients; else inference, with MLX's.
    """

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    experts: int | None
    geometry: Geometry
    dtype: str
    training: bool


def candidates(case: Case) -> list[str]:
    """Names of all strategies that there are for a case. A device, or the case itself, may refuse some."""
    return [*STRATEGIES, *([OUTPUTS] if case.experts else [])]


def default(case: Case, backend: str) -> str:
    """The strategy for a case on `"cpu"`, `"metal"` or `"cuda"`, from the first line of the table that fits."""
    return next(strategy for where, fits, strategy in _TABLE if backend in where and fits(case))


def _any(case: Case) -> bool:
    return True


def _pointwise(case: Case) -> bool:
    return case.kernel[1:3] == (1, 1) and case.geometry.groups == 1


def _depthwise(case: Case) -> bool:
    return case.geometry.is_depthwise(case.x[3], case.kernel[0])


def _depthwise_kernel(case: Case) -> bool:
    """Whether Metal's depthwise kernel takes it once the examples are folded into the channels."""
    stride, _, dilation, _ = case.geometry
    fits = max(case.kernel[1:3]) <= 7 and max(stride) <= 2 and dilation == (1, 1)
    return _depthwise(case) and fits and case.x[0] * case.x[3] % 16 == 0


def _implicit_gemm(case: Case) -> bool:
    """Whether Metal convolves groups of these sizes without unfolding them first."""
    into, out = case.kernel[3], case.kernel[0] // case.geometry.groups
    return (into <= 4 or into % 16 == 0) and (out <= 16 or out % 16 == 0)


def _small_maps(case: Case) -> bool:
    """Whether a kernel serves so few positions that mixing it costs more than convolving with every expert."""
    if case.experts is None or case.geometry.groups > 1:
        return False
    rows, columns = case.geometry.output_size(case.x[1:3], case.kernel[1:3])
    return rows * columns * case.experts <= 80 and (rows * columns == 1 or case.x[0] >= 16)


def _few_products(case: Case) -> bool:
    """Whether the products of all taps of a depthwise convolution fit into memory that is soon used again (64 MB)."""
    positions = math.prod(case.geometry.output_size(case.x[1:3], case.kernel[1:3]))
    return _depthwise(case) and case.x[0] * positions * math.prod(case.kernel) <= 2**24


def _long_rows(case: Case) -> bool:
    """Whether patches of a row of the kernel make products worth the name, and images are large beside kernels."""
    out, rows, columns, depth = case.kernel
    positions = math.prod(case.geometry.output_size(case.x[1:3], case.kernel[1:3]))
    return case.geometry.groups == 1 and rows > 1 and columns * depth >= 48 and positions >= 2 * out


# Measured on CPUs. Nobody here had a Mac: Metal's lines follow from its source (mlx/backend/metal/conv.cpp).
_TABLE: tuple[tuple[tuple[str, ...], Callable[[Case], bool], str], ...] = (
    # With 4 experts, 4×4 maps and a batch of 128, a training step of the layer takes 0.8 times as long so.
    (("cpu",), _small_maps, OUTPUTS),
    # A pointwise convolution is a matrix product as it stands; nothing has to be unfolded.
    (("cpu", "metal", "cuda"), _pointwise, "unfold"),
    # One pass over the image, where shifting takes one for each tap.
    (("metal",), _depthwise_kernel, "fold"),
    # Half the passes of shifting, and two operations instead of two a tap.
    (("cpu",), _few_products, "taps"),
    # A product of a row and a column for each channel is none for a BLAS. Elementwise passes run at memory speed.
    (("cpu", "metal", "cuda"), _depthwise, "shift"),
    # A grouped convolution reads the image where unfolding writes each pixel once for every tap.
    (("metal",), _implicit_gemm, "fold"),
    # A third of the writing, for a 3×3 kernel, and the rest is read again while it is in the cache.
    (("cpu",), _long_rows, "rows"),
    # Products are what every BLAS does best. On a CPU, MLX's grouped convolution is a naive loop.
    (("cpu", "metal", "cuda"), _any, "unfold"),
)
