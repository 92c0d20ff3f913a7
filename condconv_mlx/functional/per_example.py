"""The convolution that takes one kernel per example."""

from collections.abc import Sequence

import mlx.core as mx

from condconv_mlx.functional.choice import choose
from condconv_mlx.functional.geometry import Geometry, Padding, Pair, output_size, padding_pairs, pair
from condconv_mlx.functional.gradients import with_gradients
from condconv_mlx.functional.splitting import convolve
from condconv_mlx.functional.strategies import STRATEGIES


def conv2d_per_example(
    x: mx.array,
    kernels: mx.array,
    bias: mx.array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    strategy: str = "auto",
    exportable: bool = False,
) -> mx.array:
    """Convolve every example with a kernel of its own.

    Args:
        x: (N, H, W, Cin).
        kernels: (N, O, kh, kw, Cin / groups), kernel n for example n.
        bias: (N, O), or None.
        stride, dilation: an integer, or (height, width).
        padding: an integer, (height, width), ((top, bottom), (left, right)), `"valid"`, or TensorFlow's `"same"`.
        groups: the channels are split into this many groups; `Cin` of them is a depthwise convolution.
        strategy: how to compute it, a name in `STRATEGIES`, or `"auto"`: what `condconv-mlx tune` measured on this
            device for these shapes, else a default for the device. The result is the same.
        exportable: leave out our own gradients, which `mx.export_function` cannot write. MLX's then serve, more slowly.

    Returns:
        (N, H', W', O), as `mx.conv2d` gives for each example alone.

    Raises:
        ValueError: for shapes, dtypes or arguments that do not fit, with what was given and what is wanted.
    """
    if x.ndim != 4:
        raise ValueError(f"[conv2d_per_example] x must be (N, H, W, Cin), got shape {x.shape}.")
    n = x.shape[0]
    if kernels.ndim != 5 or kernels.shape[0] != n:
        raise ValueError(
            f"[conv2d_per_example] kernels must be (N, O, kh, kw, Cin / groups) with N = {n}, got shape "
            f"{kernels.shape}."
        )
    out = kernels.shape[1]
    if bias is not None and bias.shape != (n, out):
        raise ValueError(f"[conv2d_per_example] bias must be (N, O) = {(n, out)}, got shape {bias.shape}.")
    if strategy != "auto" and strategy not in STRATEGIES:
        raise ValueError(
            f'[conv2d_per_example] strategy must be "auto" or one of {sorted(STRATEGIES)}, got "{strategy}".'
        )
    geometry, size = check_arguments("conv2d_per_example", x, kernels, stride, padding, dilation, groups)
    if n == 0:
        return mx.zeros((0, *size, out), dtype=x.dtype)
    if strategy == "auto":
        strategy = choose(x, kernels.shape[1:], None, geometry, training=not exportable)
    if exportable:
        output = convolve(strategy, x, kernels, geometry)
    else:
        output = with_gradients(strategy, geometry)(x, kernels)
    return output if bias is None else output + bias[:, None, None]


def check_arguments(
    name: str,
    x: mx.array,
    kernels: mx.array,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int,
) -> tuple[Geometry, Pair]:
    """The geometry, and height and width of the output.

    x (N, H, W, Cin); kernels (·, O, kh, kw, Cin / groups). `ValueError`, which begins with `name`, if they do not fit.
    """
    channels, (out, height, width, depth) = x.shape[3], kernels.shape[1:]
    if groups < 1 or channels % groups or out % groups or depth != channels // groups:
        raise ValueError(
            f"[{name}] {channels} channels in and {out} out do not fit kernels of {depth} channels in {groups} groups: "
            f"their channels times groups must be {channels}, and groups divide both."
        )
    if not mx.issubdtype(x.dtype, mx.floating) or x.dtype != kernels.dtype:
        raise ValueError(
            f"[{name}] x and kernels must have the same floating dtype, got {x.dtype} and {kernels.dtype}."
        )
    strides, dilations = pair(stride, "stride"), pair(dilation, "dilation")
    pads = padding_pairs(padding, x.shape[1:3], (height, width), strides, dilations)
    size = output_size(x.shape[1:3], (height, width), strides, pads, dilations)
    return Geometry(strides, pads, dilations, groups), size
