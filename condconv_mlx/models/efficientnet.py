"""EfficientNet-B0 and B1 (arXiv 1905.11946), and with CondConv in the last three stages (CondConv paper).

Head and classifier stay static, as in the published `tf_efficientnet_cc_*` weights, whose padding and epsilon
are the defaults here.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.models.parts import Stage, Style, inverted_residuals
from condconv_mlx.static_layers import SiLU

SQUEEZE = 0.25
# At depth 1.
STAGES = (
    Stage(1, 3, 1, 1, 16, SQUEEZE),
    Stage(2, 3, 2, 6, 24, SQUEEZE),
    Stage(2, 5, 2, 6, 40, SQUEEZE),
    Stage(3, 3, 2, 6, 80, SQUEEZE),
    Stage(3, 5, 1, 6, 112, SQUEEZE),
    Stage(4, 5, 2, 6, 192, SQUEEZE),
    Stage(1, 3, 1, 6, 320, SQUEEZE),
)
FIRST_CONDITIONAL_STAGE = 4
STEM, HEAD = 32, 1280
DEPTHS = {"efficientnet_b0": 1.0, "efficientnet_b1": 1.1}


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
    same_padding: bool = True
    norm_eps: float = 1e-3
    router_dropout: float = 0.0
    routing: str = "sigmoid"


class EfficientNet(nn.Module):
    """x (N, H, W, in_channels) -> logits (N, num_classes)."""

    def __init__(self, settings: Settings, stages: Sequence[Stage]):
        super().__init__()
        style = Style(SiLU, settings.same_padding, settings.norm_eps, settings.router_dropout, settings.routing)
        self.activation = style.activation()
        self.stem = style.conv(settings.in_channels, STEM, 3, stride=1 if settings.small_images else 2)
        self.norm = style.norm(STEM)
        self.blocks = inverted_residuals(STEM, stages, FIRST_CONDITIONAL_STAGE, settings.num_experts, style)
        self.head = style.conv(stages[-1].channels, HEAD, 1)
        self.norm_head = style.norm(HEAD)
        self.classifier = nn.Linear(HEAD, settings.num_classes)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.activation(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        x = self.activation(self.norm_head(self.head(x)))
        return self.classifier(x.mean(axis=(1, 2)))


def stages_of(name: str) -> tuple[Stage, ...]:
    """The stages of the network called `name`, deeper ones with more blocks."""
    return tuple(stage._replace(blocks=math.ceil(DEPTHS[name] * stage.blocks)) for stage in STAGES)


def build(name: str, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network called `name`, and all its settings by name."""
    settings = Settings(**options)
    return EfficientNet(settings, stages_of(name)), asdict(settings)
