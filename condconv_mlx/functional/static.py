"""The ordinary convolution, for the static layers of our own networks."""

from collections.abc import Sequence

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
