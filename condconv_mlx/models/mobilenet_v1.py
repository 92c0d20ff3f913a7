"""MobileNetV1 (arXiv 1704.04861), and with CondConv from the sixth block on, classifier too (CondConv paper)."""

from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.models.parts import Style, round_channels
from condconv_mlx.static_layers import ReLU6

# Output channels and stride of each block.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
FIRST_CONDITIONAL = 5


@dataclass(frozen=True)
class Settings:
    """`num_experts=None` is the static network.

    Attributes:
        width: what all channels are multiplied by, 0.25 to 1.
        small_images: for images of about 32 pixels; the stem then has stride 1 instead of 2.
        same_padding, norm_eps, router_dropout, routing: see `condconv_mlx.models.parts.Style`.
    """

    num_classes: int = 1000
    num_experts: int | None = 8
    in_channels: int = 3
    width: float = 1.0
    small_images: bool = False
    same_padding: bool = False
    norm_eps: float = 1e-5
    router_dropout: float = 0.0
    routing: str = "sigmoid"


class Block(nn.Module):
    """Depthwise 3×3, then 1×1; x (N, H, W, in_channels) -> (N, H', W', out_channels)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, num_experts: int | None, style: Style):
        super().__init__()
        if num_experts is not None:
            self.router = style.router(in_channels, num_experts)
        self.activation = style.activation()
        self.depthwise = style.conv(in_channels, in_channels, 3, stride, in_channels, num_experts)
        self.norm_depthwise = style.norm(in_channels)
        self.project = style.conv(in_channels, out_channels, 1, num_experts=num_experts)
        self.norm_project = style.norm(out_channels)

    def __call__(self, x: mx.array) -> mx.array:
        routing = (self.router(x),) if "router" in self else ()
        x = self.activation(self.norm_depthwise(self.depthwise(x, *routing)))
        return self.activation(self.norm_project(self.project(x, *routing)))


class MobileNetV1(nn.Module):
    """x (N, H, W, in_channels) -> logits (N, num_classes)."""

    def __init__(self, settings: Settings):
        super().__init__()
        style = Style(ReLU6, settings.same_padding, settings.norm_eps, settings.router_dropout, settings.routing)
        channels = round_channels(32 * settings.width)
        self.stem = style.conv(settings.in_channels, channels, 3, stride=1 if settings.small_images else 2)
        self.norm = style.norm(channels)
        self.activation = style.activation()
        self.blocks = []
        for index, (out, stride) in enumerate(BLOCKS):
            experts = settings.num_experts if index >= FIRST_CONDITIONAL else None
            out = round_channels(out * settings.width)
            self.blocks.append(Block(channels, out, stride, experts, style))
            channels = out
        self.classifier = style.classifier(channels, settings.num_classes, settings.num_experts)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.activation(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean(axis=(1, 2)))


def build(**options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and all its settings by name."""
    settings = Settings(**options)
    if not 0.25 <= settings.width <= 1:
        raise ValueError(f"[mobilenet_v1] width must be between 0.25 and 1, got {settings.width}.")
    return MobileNetV1(settings), asdict(settings)
