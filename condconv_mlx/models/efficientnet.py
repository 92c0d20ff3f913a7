"""EfficientNet-B0 and B1 (arXiv 1905.11946), and with CondConv in the last three stages (CondConv paper).

Head and classifier stay static, as in the published `tf_efficientnet_cc_*` weights, whose padding and epsilon
are the defaults here.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.models.parts import InvertedResidual, Style
from condconv_mlx.static_layers import SiLU

# Blocks at depth 1, kernel, stride of the first, expansion and output channels of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
FIRST_CONDITIONAL_STAGE = 4
SQUEEZE = 0.25
STEM, HEAD = 32, 1280
DEPTHS = {"efficientnet_b0": 1.0, "efficientnet_b1": 1.1}


@dataclass(frozen=True)
class Settings:
    """`num_experts=None` is the static network.

    Attributes:
        small_images: for images of about 32 pixels; the stem then has stride 1 instead of 2.
        same_padding, norm_eps, router_dropout: see `condconv_mlx.models.parts.Style`.
    """

    num_classes: int = 1000
    num_experts: int | None = 8
    in_channels: int = 3
    small_images: bool = False
    same_padding: bool = True
    norm_eps: float = 1e-3
    router_dropout: float = 0.0


class EfficientNet(nn.Module):
    """x (N, H, W, in_channels) -> logits (N, num_classes). Stages have ceil(depth × blocks) blocks."""

    def __init__(self, settings: Settings, depth: float):
        super().__init__()
        style = Style(SiLU, settings.same_padding, settings.norm_eps, settings.router_dropout)
        self.activation = style.activation()
        self.stem = style.conv(settings.in_channels, STEM, 3, stride=1 if settings.small_images else 2)
        self.norm = style.norm(STEM)
        self.blocks, channels = [], STEM
        for stage, (blocks, kernel, stride, expansion, out) in enumerate(STAGES):
            experts = settings.num_experts if stage >= FIRST_CONDITIONAL_STAGE else None
            for block in range(math.ceil(depth * blocks)):
                step = stride if block == 0 else 1
                self.blocks.append(InvertedResidual(channels, out, kernel, step, expansion, SQUEEZE, experts, style))
                channels = out
        self.head = style.conv(channels, HEAD, 1)
        self.norm_head = style.norm(HEAD)
        self.classifier = nn.Linear(HEAD, settings.num_classes)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.activation(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        x = self.activation(self.norm_head(self.head(x)))
        return self.classifier(x.mean(axis=(1, 2)))


def build(name: str, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network called `name`, and all its settings by name."""
    settings = Settings(**options)
    return EfficientNet(settings, DEPTHS[name]), asdict(settings)
