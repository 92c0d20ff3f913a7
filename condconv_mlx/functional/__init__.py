"""The arithmetic of CondConv: mixing experts, and the convolution that takes one kernel per example."""

from condconv_mlx.functional.conditional import cond_conv2d
from condconv_mlx.functional.mixing import mix_experts
from condconv_mlx.functional.per_example import conv2d_per_example
from condconv_mlx.functional.static import batch_norm, conv2d, max_pool, relu, silu
from condconv_mlx.functional.strategies import STRATEGIES

__all__ = [
    "STRATEGIES",
    "batch_norm",
    "cond_conv2d",
    "conv2d",
    "conv2d_per_example",
    "max_pool",
    "mix_experts",
    "relu",
    "silu",
]
