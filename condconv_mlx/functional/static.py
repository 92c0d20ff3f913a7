"""The ordinary convolution, for the static layers of our own networks."""

import mlx.core as mx

from condconv_mlx.functional.geometry import Padding, Pair, padding_pairs
from condconv_mlx.functional.unfold import unfolded_conv2d


def conv2d(x: mx.array, weight: mx.array, *, stride: Pair = (1, 1), padding: Padding = 0) -> mx.array:
    """`mx.conv2d` of x (N, H, W, C) with weight (O, kh, kw, C), faster to differentiate on a CPU.

    MLX's CPU backend computes the input gradient of a strided convolution by a naive loop; there the unfolded
    product serves instead. On a GPU this is `mx.conv2d` itself.
    """
    pads = padding_pairs(padding, x.shape[1:3], weight.shape[1:3], stride, (1, 1))
    if mx.default_device() == mx.cpu:
        return unfolded_conv2d(stride, pads, (1, 1))(x, weight[None])
    (top, bottom), (left, right) = pads
    return mx.conv_general(x, weight, stride=stride, padding=([top, left], [bottom, right]))
