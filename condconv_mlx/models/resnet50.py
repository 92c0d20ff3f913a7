"""ResNet-50 (arXiv 1512.03385), and with CondConv in the last stage; classifier static (CondConv paper).

The stride of a block is in its 3×3 convolution ("v1.5"), as the multiply-adds of the CondConv paper imply.
"""

from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.models.parts import Style
from condconv_mlx.static_layers import ReLU

# Blocks, stride of the first, and channels inside the blocks of each stage. Four times as many come out.
STAGES = ((3, 1, 64), (4, 2, 128), (6, 2, 256), (3, 2, 512))
FIRST_CONDITIONAL_STAGE = 3
STEM, EXPANSION = 64, 4


@dataclass(frozen=True)
class Settings:
    """`num_experts=None` is the static network.

    Attributes:
        small_images: for images of about 32 pixels; the stem is then 3×3 without stride, and no pooling follows it.
        same_padding, norm_eps, router_dropout, routing: see `condconv_mlx.models.parts.Style`.
    """

    num_classes: int = 1000
    num_experts: int | None = 8
    in_channels: int = 3
    small_images: bool = False
    same_padding: bool = False
    norm_eps: float = 1e-5
    router_dropout: float = 0.0
    routing: str = "sigmoid"


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, and a shortcut; x (N, H, W, in_channels) -> (N, H', W', 4 · channels).

    The shortcut is a 1×1 convolution where the shapes differ. All share one router, on the pooled input of the block.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, num_experts: int | None, style: Style):
        super().__init__()
        out = EXPANSION * channels
        if num_experts is not None:
            self.router = style.router(in_channels, num_experts)
        self.activation = style.activation()
        self.conv1 = style.conv(in_channels, channels, 1, num_experts=num_experts)
        self.norm1 = style.norm(channels)
        self.conv2 = style.conv(channels, channels, 3, stride, num_experts=num_experts)
        self.norm2 = style.norm(channels)
        self.conv3 = style.conv(channels, out, 1, num_experts=num_experts)
        self.norm3 = style.norm(out)
        if stride > 1 or in_channels != out:
            self.shortcut = style.conv(in_channels, out, 1, stride, num_experts=num_experts)
            self.norm_shortcut = style.norm(out)

    def __call__(self, x: mx.array) -> mx.array:
        routing = (self.router(x),) if "router" in self else ()
        y = self.activation(self.norm1(self.conv1(x, *routing)))
        y = self.activation(self.norm2(self.conv2(y, *routing)))
        y = self.norm3(self.conv3(y, *routing))
        if "shortcut" in self:
            x = self.norm_shortcut(self.shortcut(x, *routing))
        return self.activation(x + y)


class ResNet50(nn.Module):
    """x (N, H, W, in_channels) -> logits (N, num_classes)."""

    def __init__(self, settings: Settings):
        super().__init__()
        style = Style(ReLU, settings.same_padding, settings.norm_eps, settings.router_dropout, settings.routing)
        small = settings.small_images
        self.stem = style.conv(settings.in_channels, STEM, 3 if small else 7, stride=1 if small else 2)
        self.norm = style.norm(STEM)
        self.activation = style.activation()
        if not small:
            self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.blocks, channels = [], STEM
        for stage, (blocks, stride, inside) in enumerate(STAGES):
            experts = settings.num_experts if stage >= FIRST_CONDITIONAL_STAGE else None
            for block in range(blocks):
                self.blocks.append(Bottleneck(channels, inside, stride if block == 0 else 1, experts, style))
                channels = EXPANSION * inside
        self.classifier = nn.Linear(channels, settings.num_classes)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.activation(self.norm(self.stem(x)))
        if "pool" in self:
            x = self.pool(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean(axis=(1, 2)))


def build(**options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and all its settings by name."""
    settings = Settings(**options)
    return ResNet50(settings), asdict(settings)
