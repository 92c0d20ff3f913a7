"""MLX's static layers with the arithmetic of `condconv_mlx.functional`, which is faster on a CPU.

The same parameters, arguments and results.
"""

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx import functional as F


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with the gradients of `condconv_mlx.functional.conv2d`, which are faster on a CPU."""

    def __call__(self, x: mx.array) -> mx.array:
        output = F.conv2d(
            x,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            exportable=not self.training,
        )
        return output + self.bias if "bias" in self else output


class BatchNorm(nn.BatchNorm):
    """`nn.BatchNorm`, which computes the variance twice in training, computing it once."""

    def __call__(self, x: mx.array) -> mx.array:
        if not self.training and self.track_running_stats and "weight" in self:
            # One scale and one shift a channel: two passes over x instead of four.
            scale = self.weight * mx.rsqrt(self.running_var + self.eps)
            return x * scale + (self.bias - self.running_mean * scale)
        count = x.size // x.shape[-1]
        ours = self.training and self.track_running_stats and "weight" in self and 2 <= x.ndim <= 4 and count > 1
        if not ours or mx.default_device() != mx.cpu:
            return super().__call__(x)
        output, mean, variance = F.batch_norm(x, self.weight, self.bias, self.eps)
        new = self.momentum
        self.running_mean = (1 - new) * self.running_mean + new * mean
        self.running_var = (1 - new) * self.running_var + new * variance * (count / (count - 1))
        return output


class ReLU(nn.Module):
    """max(x, 0)."""

    def __call__(self, x: mx.array) -> mx.array:
        return F.relu(x) if self.training else nn.relu(x)


class ReLU6(nn.Module):
    """min(max(x, 0), 6)."""

    def __call__(self, x: mx.array) -> mx.array:
        # Not nn.relu6: it is compiled, and on a CPU its first call waits for a C++ compiler, where there is one.
        return F.relu(x, cap=6) if self.training else mx.minimum(mx.maximum(x, 0), 6)


class SiLU(nn.Module):
    """x · sigmoid(x)."""

    def __call__(self, x: mx.array) -> mx.array:
        return F.silu(x, exportable=not self.training)


class MaxPool(nn.Module):
    """The maxima of squares of 2×2; x (N, H, W, C) -> (N, floor(H / 2), floor(W / 2), C)."""

    def __call__(self, x: mx.array) -> mx.array:
        return F.max_pool(x, exportable=not self.training)
