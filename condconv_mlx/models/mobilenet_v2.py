"""MobileNetV2 (arXiv 1801.04381), and with CondConv from stage 3 on, head and classifier too (CondConv paper)."""

from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.models.parts import Stage, Style, inverted_residuals
from condconv_mlx.static_layers import ReLU6

STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(3, 3, 2, 6, 32),
    Stage(4, 3, 2, 6, 64),
    Stage(3, 3, 1, 6, 96),
    Stage(3, 3, 2, 6, 160),
    Stage(1, 3, 1, 6, 320),
)
FIRST_CONDITIONAL_STAGE = 3
STEM, HEAD = 32, 1280


@dataclass(frozen=True)
class Settings:
    """`num_experts=None` is the static network.

    Attributes:
        small_images: for images of about 32 pixels; the stem then has stride 1 instead of 2.
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


class MobileNetV2(nn.Module):
    """x (N, H, W, in_channels) -> logits (N, num_classes)."""

    def __init__(self, settings: Settings):
        super().__init__()
        style = Style(ReLU6, settings.same_padding, settings.norm_eps, settings.router_dropout, settings.routing)
        experts = settings.num_experts
        self.activation = style.activation()
        self.stem = style.conv(settings.in_channels, STEM, 3, stride=1 if settings.small_images else 2)
        self.norm = style.norm(STEM)
        self.blocks = inverted_residuals(STEM, STAGES, FIRST_CONDITIONAL_STAGE, experts, style)
        channels = STAGES[-1].channels
        if experts is not None:
            self.router = style.router(channels, experts)
        self.head = style.conv(channels, HEAD, 1, num_experts=experts)
        self.norm_head = style.norm(HEAD)
        self.classifier = style.classifier(HEAD, settings.num_classes, experts)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.activation(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        routing = (self.router(x),) if "router" in self else ()
        x = self.activation(self.norm_head(self.head(x, *routing)))
        return self.classifier(x.mean(axis=(1, 2)))


def build(**options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and all its settings by name."""
    settings = Settings(**options)
    return MobileNetV2(settings), asdict(settings)
