"""The convolution that takes one kernel per example, and its strategies."""

from collections.abc import Callable, Sequence

import mlx.core as mx

from condconv_mlx.functional.depthwise import depthwise_conv2d
from condconv_mlx.functional.geometry import Padding, PaddingPairs, Pair, output_size, padding_pairs, pair
from condconv_mlx.functional.unfold import unfolded_conv2d

Strategy = Callable[[mx.array, mx.array, Pair, PaddingPairs, Pair, int], mx.array]


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
) -> mx.array:
    """Convolve every example with a kernel of its own.

    Args:
        x: (N, H, W, Cin).
        kernels: (N, O, kh, kw, Cin / groups), kernel n for example n.
        bias: (N, O), or None.
        stride, dilation: an integer, or (height, width).
        padding: an integer, (height, width), ((top, bottom), (left, right)), `"valid"`, or TensorFlow's `"same"`.
        groups: the channels are split into this many groups; `Cin` of them is a depthwise convolution.
        strategy: how to compute it, a name in `STRATEGIES`, or `"auto"`. The result is the same.

    Returns:
        (N, H', W', O), as `mx.conv2d` gives for each example alone.

    Raises:
        ValueError: for shapes, dtypes or arguments that do not fit, with what was given and what is wanted.
    """
    if x.ndim != 4:
        raise ValueError(f"[conv2d_per_example] x must be (N, H, W, Cin), got shape {x.shape}.")
    n, height, width, channels = x.shape
    if kernels.ndim != 5 or kernels.shape[0] != n:
        raise ValueError(
            f"[conv2d_per_example] kernels must be (N, O, kh, kw, Cin / groups) with N = {n}, got shape "
            f"{kernels.shape}."
        )
    out = kernels.shape[1]
    if groups < 1 or channels % groups or out % groups or kernels.shape[4] != channels // groups:
        raise ValueError(
            f"[conv2d_per_example] {channels} channels in and {out} out do not fit kernels of {kernels.shape[4]} "
            f"channels in {groups} groups: kernels.shape[4] * groups must be {channels}, and groups divide both."
        )
    if not mx.issubdtype(x.dtype, mx.floating) or x.dtype != kernels.dtype:
        raise ValueError(
            f"[conv2d_per_example] x and kernels must have the same floating dtype, got {x.dtype} and {kernels.dtype}."
        )
    if bias is not None and bias.shape != (n, out):
        raise ValueError(f"[conv2d_per_example] bias must be (N, O) = {(n, out)}, got shape {bias.shape}.")
    if strategy != "auto" and strategy not in STRATEGIES:
        raise ValueError(
            f'[conv2d_per_example] strategy must be "auto" or one of {sorted(STRATEGIES)}, got "{strategy}".'
        )
    kernel = (kernels.shape[2], kernels.shape[3])
    strides, dilations = pair(stride, "stride"), pair(dilation, "dilation")
    pads = padding_pairs(padding, (height, width), kernel, strides, dilations)
    rows, columns = output_size((height, width), kernel, strides, pads, dilations)
    if n == 0:
        return mx.zeros((0, rows, columns, out), dtype=x.dtype)

    if strategy == "auto":
        strategy = "shift" if groups == channels == out else "unfold"
    output = STRATEGIES[strategy](x, kernels, strides, pads, dilations, groups)
    return output if bias is None else output + bias[:, None, None]


def _unfold(
    x: mx.array, kernels: mx.array, stride: Pair, padding: PaddingPairs, dilation: Pair, groups: int
) -> mx.array:
    """Unfolded patches times kernels, one product an example. A group is an example of its own."""
    conv = unfolded_conv2d(stride, padding, dilation)
    if groups == 1:
        return conv(x, kernels)
    n, height, width, channels = x.shape
    out = kernels.shape[1]
    x = x.reshape(n, height, width, groups, -1).transpose(0, 3, 1, 2, 4).reshape(n * groups, height, width, -1)
    output = conv(x, kernels.reshape(n * groups, out // groups, *kernels.shape[2:]))
    rows, columns = output.shape[1:3]
    return output.reshape(n, groups, rows, columns, -1).transpose(0, 2, 3, 1, 4).reshape(n, rows, columns, out)


def _shift(
    x: mx.array, kernels: mx.array, stride: Pair, padding: PaddingPairs, dilation: Pair, groups: int
) -> mx.array:
    """Depthwise: the input, shifted by each tap, times that tap's weights, summed."""
    if not groups == x.shape[3] == kernels.shape[1]:
        raise ValueError(f'[conv2d_per_example] strategy "shift" is for depthwise convolutions, got groups = {groups}.')
    return depthwise_conv2d(stride, padding, dilation)(x, kernels[..., 0].transpose(0, 2, 3, 1))


def _loop(x: mx.array, kernels: mx.array, stride: Pair, padding: PaddingPairs, dilation: Pair, groups: int) -> mx.array:
    """One `mx.conv2d` an example."""
    (top, bottom), (left, right) = padding
    return mx.concatenate(
        [
            mx.conv_general(
                x[i : i + 1],
                kernels[i],
                stride,
                ([top, left], [bottom, right]),
                kernel_dilation=dilation,
                groups=groups,
            )
            for i in range(x.shape[0])
        ]
    )


# By name; each takes (x, kernels, stride, padding, dilation, groups), checked and in pairs, and gives the same result.
STRATEGIES: dict[str, Strategy] = {"unfold": _unfold, "shift": _shift, "loop": _loop}
