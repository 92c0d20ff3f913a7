"""What the networks for ImageNet have in common. Everything is NHWC."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.layers import CondConv2d, CondLinear, Router
from condconv_mlx.static_layers import BatchNorm, Conv2d


@dataclass(frozen=True)
class Style:
    """How the layers of one network are built.

    Attributes:
        activation: class of the layer after each normalisation but the last of a block.
        same_padding: TensorFlow's `"same"`, which pads an odd pixel after; else kernel_size // 2 on every side.
        norm_eps: epsilon of batch normalisation.
        router_dropout: probability with which a routing weight is dropped in training.
        routing: what makes routing weights of a router's numbers, `"sigmoid"` or `"softmax"`.
    """

    activation: Callable[[], nn.Module]
    same_padding: bool
    norm_eps: float
    router_dropout: float = 0.0
    routing: str = "sigmoid"

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        num_experts: int | None = None,
    ) -> nn.Module:
        """A convolution without bias: static, or for `num_experts` one that is given its routing weights."""
        padding = "same" if self.same_padding else kernel_size // 2
        if num_experts is not None:
            return CondConv2d(
                in_channels,
                out_channels,
                kernel_size,
                num_experts,
                stride,
                padding,
                groups=groups,
                bias=False,
                router=False,
            )
        # nn.Conv2d declares its padding as numbers; ours hands on what it got.
        return Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)  # type: ignore[arg-type]

    def norm(self, channels: int) -> nn.Module:
        """Batch normalisation."""
        return BatchNorm(channels, eps=self.norm_eps)

    def router(self, in_channels: int, num_experts: int) -> Router:
        """The paper's router, or with softmax that of Dynamic Convolution."""
        return Router(in_channels, num_experts, self.routing, dropout=self.router_dropout)

    def classifier(self, in_channels: int, num_classes: int, num_experts: int | None) -> nn.Module:
        """A fully connected layer: static, or one with experts and a router of its own."""
        if num_experts is None:
            return nn.Linear(in_channels, num_classes)
        classifier = CondLinear(in_channels, num_classes, num_experts, router=False)
        classifier.router = self.router(in_channels, num_experts)
        return classifier


class SqueezeExcite(nn.Module):
    """Each channel times a weight in (0, 1) that follows from the means of all (arXiv 1709.01507).

    x (N, H, W, C) -> (N, H, W, C), by way of `hidden` channels.
    """

    def __init__(self, channels: int, hidden: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.activation = activation()

    def __call__(self, x: mx.array) -> mx.array:
        weights = mx.sigmoid(self.expand(self.activation(self.reduce(x.mean(axis=(1, 2))))))
        return x * weights[:, None, None]


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (arXiv 1801.04381): expand by a 1×1 convolution, depthwise, project.

    x (N, H, W, in_channels) -> (N, H', W', out_channels). With an expansion of 1 the first convolution is left out.
    One router, on the pooled input of the block, serves all its convolutions; squeeze-and-excitation stays static.

    Args:
        expansion: channels of the depthwise convolution, in multiples of `in_channels`.
        squeeze: hidden channels of squeeze-and-excitation, as a share of `in_channels`; 0 leaves it out.
        num_experts: of each convolution; None is static.
        shortcut: add the input where the shapes agree.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expansion: int,
        squeeze: float,
        num_experts: int | None,
        style: Style,
        shortcut: bool = True,
    ):
        super().__init__()
        channels = expansion * in_channels
        self.activation = style.activation()
        self.shortcut = shortcut and stride == 1 and in_channels == out_channels
        if num_experts is not None:
            self.router = style.router(in_channels, num_experts)
        if expansion > 1:
            self.expand = style.conv(in_channels, channels, 1, num_experts=num_experts)
            self.norm_expand = style.norm(channels)
        self.depthwise = style.conv(channels, channels, kernel_size, stride, channels, num_experts)
        self.norm_depthwise = style.norm(channels)
        if squeeze:
            self.squeeze_excite = SqueezeExcite(channels, round(squeeze * in_channels), style.activation)
        self.project = style.conv(channels, out_channels, 1, num_experts=num_experts)
        self.norm_project = style.norm(out_channels)

    def __call__(self, x: mx.array) -> mx.array:
        routing = (self.router(x),) if "router" in self else ()
        y = x
        if "expand" in self:
            y = self.activation(self.norm_expand(self.expand(y, *routing)))
        y = self.activation(self.norm_depthwise(self.depthwise(y, *routing)))
        if "squeeze_excite" in self:
            y = self.squeeze_excite(y)
        y = self.norm_project(self.project(y, *routing))
        return x + y if self.shortcut else y


class Stage(NamedTuple):
    """Inverted residual blocks of one kind. The stride is that of the first, the channels are those that come out."""

    blocks: int
    kernel_size: int
    stride: int
    expansion: int
    channels: int
    squeeze: float = 0


def inverted_residuals(
    in_channels: int, stages: Sequence[Stage], first_conditional: int, num_experts: int | None, style: Style
) -> list[nn.Module]:
    """The blocks of all stages; those of stage `first_conditional` and later have `num_experts`."""
    blocks: list[nn.Module] = []
    for number, (count, kernel_size, stride, expansion, channels, squeeze) in enumerate(stages):
        experts = num_experts if number >= first_conditional else None
        for index in range(count):
            step = stride if index == 0 else 1
            blocks.append(
                InvertedResidual(in_channels, channels, kernel_size, step, expansion, squeeze, experts, style)
            )
            in_channels = channels
    return blocks


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, but never less than nine tenths (arXiv 1801.04381, code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor
