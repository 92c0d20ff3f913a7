"""A small residual network for images of 28 to 64 pixels: static at first, CondConv from the middle on.

Stem 3×3, then three residual blocks of two 3×3 convolutions, the first two halving the image: the first static, the
other two and the classifier CondConv. As in the paper a block has one router, on the pooled input of the block, shared
by all its convolutions; unlike the paper's it normalises what it pooled.
"""

from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.layers import CondConv2d, CondLinear, Router
from condconv_mlx.static_layers import BatchNorm, Conv2d, ReLU


@dataclass(frozen=True)
class Settings:
    """`num_experts=None` is the static network. The stem has `width` channels, the blocks 2, 4 and 4 times that."""

    num_classes: int = 10
    num_experts: int | None = 8
    in_channels: int = 3
    width: int = 28
    router_dropout: float = 0.0


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut; x (N, H, W, Cin) -> (N, ceil(H / stride), ceil(W / stride), O).

    The shortcut is a 1×1 convolution where the shapes differ.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, num_experts: int | None, router_dropout: float
    ):
        super().__init__()

        def conv(channels: int, kernel_size: int, stride: int) -> nn.Module:
            padding = kernel_size // 2
            if num_experts is None:
                return Conv2d(channels, out_channels, kernel_size, stride, padding, bias=False)
            return CondConv2d(
                channels, out_channels, kernel_size, num_experts, stride, padding, bias=False, router=False
            )

        if num_experts is not None:
            self.router = Router(in_channels, num_experts, dropout=router_dropout, norm=True)
        self.relu = ReLU()
        self.conv1 = conv(in_channels, 3, stride)
        self.norm1 = BatchNorm(out_channels)
        self.conv2 = conv(out_channels, 3, 1)
        self.norm2 = BatchNorm(out_channels)
        if stride > 1 or in_channels != out_channels:
            self.shortcut = conv(in_channels, 1, stride)
            self.norm_shortcut = BatchNorm(out_channels)

    def __call__(self, x: mx.array) -> mx.array:
        routing = (self.router(x),) if "router" in self else ()
        y = self.relu(self.norm1(self.conv1(x, *routing)))
        y = self.norm2(self.conv2(y, *routing))
        if "shortcut" in self:
            x = self.norm_shortcut(self.shortcut(x, *routing))
        return self.relu(y + x)


class CondConvSmall(nn.Module):
    """x (N, H, W, in_channels) -> logits (N, num_classes)."""

    def __init__(self, settings: Settings):
        super().__init__()
        width, experts, dropout = settings.width, settings.num_experts, settings.router_dropout
        self.stem = Conv2d(settings.in_channels, width, 3, padding=1, bias=False)
        self.norm = BatchNorm(width)
        self.relu = ReLU()
        self.blocks = [
            Block(width, 2 * width, 2, None, dropout),
            Block(2 * width, 4 * width, 2, experts, dropout),
            Block(4 * width, 4 * width, 1, experts, dropout),
        ]
        self.classifier: nn.Module
        if experts is None:
            self.classifier = nn.Linear(4 * width, settings.num_classes)
        else:
            self.classifier = CondLinear(4 * width, settings.num_classes, experts)
            self.classifier.router = Router(4 * width, experts, dropout=dropout, norm=True)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean(axis=(1, 2)))


def build(**options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and all its settings by name."""
    settings = Settings(**options)
    if not isinstance(settings.width, int) or settings.width < 1:
        raise ValueError(f"[condconv_small] width must be an integer >= 1, got {settings.width!r}.")
    return CondConvSmall(settings), asdict(settings)
