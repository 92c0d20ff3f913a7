"""A small residual network for images of 28 to 64 pixels: static at first, CondConv from the middle on.

Stem 3×3, then three residual blocks of two 3×3 convolutions, each of which halves the image by max pooling: the first
static, the other two and the classifier CondConv. As in the paper a block has one router, on the pooled input of the
block, shared by its convolutions; unlike the paper's it normalises what it pooled. Pooling and the scaled logits are
those of networks made for fast training (Page, "How to train your ResNet"; Jordan, arXiv 2404.00498). The settings from
`channels` on are for asking what these choices are worth, see `condconv_mlx.study`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.layers import CondConv2d, CondLinear, Router
from condconv_mlx.static_layers import BatchNorm, Conv2d, MaxPool, ReLU

CHANNELS = (1.5, 4.5, 6)  # of the blocks, in stem widths
LOGITS = 0.125  # times the classifier's, which come from maxima and would be large at first


@dataclass(frozen=True)
class Settings:
    """`num_experts=None` is the static network.

    Attributes:
        width: channels of the stem.
        router_dropout: probability with which a routing weight is dropped in training.
        channels: of the three blocks; by default 1.5, 4.5 and 6 times the width.
        conditional_from: the block, counted from 0, from which on there is CondConv; 3 leaves the classifier alone.
        routing: `"sigmoid"` or `"softmax"`.
        separate_routers: each convolution has a router of its own, on its own input.
    """

    num_classes: int = 10
    num_experts: int | None = 8
    in_channels: int = 3
    width: int = 24
    router_dropout: float = 0.0
    channels: Sequence[int] | None = None
    conditional_from: int = 1
    routing: str = "sigmoid"
    separate_routers: bool = False

    def block_channels(self) -> Sequence[int]:
        """Of the three blocks."""
        return self.channels or [round(share * self.width) for share in CHANNELS]

    def router(self, channels: int) -> Router:
        """A router on an input with so many channels."""
        assert self.num_experts is not None
        return Router(channels, self.num_experts, self.routing, dropout=self.router_dropout, norm=True)


class Block(nn.Module):
    """Two 3×3 convolutions, max pooling after the first, a shortcut around the second.

    x (N, H, W, Cin) -> (N, floor(H / 2), floor(W / 2), O).
    """

    def __init__(self, in_channels: int, out_channels: int, conditional: bool, settings: Settings):
        super().__init__()

        def conv(channels: int) -> nn.Module:
            if not conditional:
                return Conv2d(channels, out_channels, 3, padding=1, bias=False)
            assert settings.num_experts is not None
            layer = CondConv2d(channels, out_channels, 3, settings.num_experts, padding=1, bias=False, router=False)
            if settings.separate_routers:
                layer.router = settings.router(channels)
            return layer

        if conditional and not settings.separate_routers:
            self.router = settings.router(in_channels)
        self.relu = ReLU()
        self.conv1 = conv(in_channels)
        self.pool = MaxPool()
        self.norm1 = BatchNorm(out_channels)
        self.conv2 = conv(out_channels)
        self.norm2 = BatchNorm(out_channels)

    def __call__(self, x: mx.array) -> mx.array:
        routing = (self.router(x),) if "router" in self else ()
        x = self.relu(self.norm1(self.pool(self.conv1(x, *routing))))
        return x + self.relu(self.norm2(self.conv2(x, *routing)))


class CondConvSmall(nn.Module):
    """x (N, H, W, in_channels) -> logits (N, num_classes)."""

    def __init__(self, settings: Settings):
        super().__init__()
        width, experts = settings.width, settings.num_experts
        self.stem = Conv2d(settings.in_channels, width, 3, padding=1, bias=False)
        self.norm = BatchNorm(width)
        self.relu = ReLU()
        channels = [width, *settings.block_channels()]
        self.blocks = [
            Block(into, out, experts is not None and i >= settings.conditional_from, settings)
            for i, (into, out) in enumerate(pairwise(channels))
        ]
        self.classifier: nn.Module
        if experts is None:
            self.classifier = nn.Linear(channels[-1], settings.num_classes)
        else:
            self.classifier = CondLinear(channels[-1], settings.num_classes, experts)
            self.classifier.router = settings.router(channels[-1])

    def __call__(self, x: mx.array) -> mx.array:
        x = self.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return LOGITS * self.classifier(x.max(axis=(1, 2)))


def build(**options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and all its settings by name."""
    settings = Settings(**options)
    if not isinstance(settings.width, int) or settings.width < 1:
        raise ValueError(f"[condconv_small] width must be an integer >= 1, got {settings.width!r}.")
    for name, least, most in (("conditional_from", 0, len(CHANNELS)), ("separate_routers", False, True)):
        value = getattr(settings, name)
        if type(value) is not type(least) or not least <= value <= most:
            raise ValueError(f"[condconv_small] {name} must be from {least} to {most}, got {value!r}.")
    channels = settings.channels
    if channels is not None and (len(channels) != len(CHANNELS) or not all(type(c) is int and c > 0 for c in channels)):
        raise ValueError(f"[condconv_small] channels must be {len(CHANNELS)} integers >= 1, got {channels!r}.")
    return CondConvSmall(settings), asdict(settings)
