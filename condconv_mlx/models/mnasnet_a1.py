"""MnasNet-A1 (arXiv 1807.11626), and with CondConv from stage 4 on; head and classifier static (CondConv paper)."""

from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.models.parts import Stage, Style, inverted_residuals
from condconv_mlx.static_layers import ReLU

STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(3, 5, 2, 3, 40, squeeze=0.25),
    Stage(4, 3, 2, 6, 80),
    Stage(2, 3, 1, 6, 112, squeeze=0.25),
    Stage(3, 5, 2, 6, 160, squeeze=0.25),
    Stage(1, 3, 1, 6, 320),
)
FIRST_CONDITIONAL_STAGE = 4
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


class MnasNetA1(nn.Module):
    """x (N, H, W, in_channels) -> logits (N, num_classes)."""

    def __init__(self, settings: Settings):
        super().__init__()
        style = Style(ReLU, settings.same_padding, settings.norm_eps, settings.router_dropout, settings.routing)
        self.activation = style.activation()
        self.stem = style.conv(settings.in_channels, STEM, 3, stride=1 if settings.small_images else 2)
        self.norm = style.norm(STEM)
        self.blocks = inverted_residuals(STEM, STAGES, FIRST_CONDITIONAL_STAGE, settings.num_experts, style)
        self.head = style.conv(STAGES[-1].channels, HEAD, 1)
        self.norm_head = style.norm(HEAD)
        self.classifier = nn.Linear(HEAD, settings.num_classes)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.activation(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        x = self.activation(self.norm_head(self.head(x)))
        return self.classifier(x.mean(axis=(1, 2)))


def build(**options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and all its settings by name."""
    settings = Settings(**options)
    return MnasNetA1(settings), asdict(settings)
