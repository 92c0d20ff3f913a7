"""Layers whose kernels are mixed from experts, for every example anew."""

import math
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx import functional as F
from condconv_mlx.functional.geometry import Padding, pair


class Observer(Protocol):
    """Sees the routing of a forward pass, and may change it. `condconv_mlx.explain.trace` is one."""

    def routed(self, router: "Router", routing_weights: mx.array) -> mx.array:
        """Called with what a router computed; what it returns is used."""

    def used(self, layer: nn.Module, routing_weights: mx.array) -> None:
        """Called with the routing weights that a layer mixes its experts by."""


observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


class Router(nn.Module):
    """Routing weights from the mean over all positions of the input (paper, section 3.1).

    Input (N, ..., C), output (N, E).

    Args:
        in_channels: C.
        num_experts: E.
        activation: `"sigmoid"`, the paper's: weights in (0, 1), each expert for itself; or `"softmax"`, which is
            Dynamic Convolution's (arXiv 1912.03458): weights that sum to 1.
        hidden: units of a hidden layer with ReLU, or None for a single linear layer.
        dropout: probability with which a routing weight is dropped in training.
        temperature: what the logits are divided by before a softmax.
        norm: normalise the means over the batch first. Their deviations from image to image are small, so that without
            this a router learns slowly; the paper has none. In inference it is a linear map, like the router itself.
    """

    def __init__(
        self,
        in_channels: int,
        num_experts: int,
        activation: str = "sigmoid",
        hidden: int | None = None,
        dropout: float = 0.0,
        temperature: float = 1.0,
        norm: bool = False,
    ):
        super().__init__()
        _check_counts("Router", in_channels=in_channels, num_experts=num_experts)
        if activation not in ("sigmoid", "softmax"):
            raise ValueError(f'[Router] activation must be "sigmoid" or "softmax", got "{activation}".')
        if hidden is not None:
            _check_counts("Router", hidden=hidden)
        if not temperature > 0:
            raise ValueError(f"[Router] temperature must be above 0, got {temperature}.")
        self.activation = activation
        self.temperature = temperature
        if norm:
            self.norm = nn.BatchNorm(in_channels)
        if hidden is not None:
            self.hidden = nn.Linear(in_channels, hidden)
        self.linear = nn.Linear(hidden or in_channels, num_experts)
        self.dropout = nn.Dropout(dropout)

    def _extra_repr(self) -> str:
        return f"num_experts={self.linear.weight.shape[0]}, activation={self.activation}"

    def __call__(self, x: mx.array) -> mx.array:
        channels = (self.hidden if "hidden" in self else self.linear).weight.shape[1]
        if x.ndim < 2 or x.shape[-1] != channels:
            raise ValueError(f"[Router] x must be (N, ..., {channels}), got shape {x.shape}.")
        # A sum over many positions leaves the range of float16, and the precision of bfloat16.
        pooled = x.astype(mx.float32).mean(axis=tuple(range(1, x.ndim - 1))).astype(x.dtype) if x.ndim > 2 else x
        if "norm" in self:
            pooled = self.norm(pooled)
        if "hidden" in self:
            pooled = nn.relu(self.hidden(pooled))
        logits = self.linear(pooled)
        if self.activation == "sigmoid":
            routing_weights = mx.sigmoid(logits)
        else:
            routing_weights = mx.softmax(logits / self.temperature, axis=-1)
        routing_weights = self.dropout(routing_weights)
        watching = observer.get()
        return routing_weights if watching is None else watching.routed(self, routing_weights)


class CondConv2d(nn.Module):
    """A 2-D convolution whose kernel is, for every example, a mixture of experts.

    Input (N, H, W, Cin), output (N, H', W', O). Called as `layer(x)` it routes by its own router; as
    `layer(x, routing_weights)` by the weights given (N, E), so that several layers can share one router.

    Parameters: `weight` (E, O, kh, kw, Cin / groups), `bias` (E, O). Each expert starts as `nn.Conv2d` would.

    Args:
        in_channels: Cin.
        out_channels: O.
        kernel_size: an integer or (height, width).
        num_experts: E.
        stride, dilation: an integer or (height, width).
        padding: an integer, (height, width), ((top, bottom), (left, right)), `"valid"` or TensorFlow's `"same"`.
        groups: groups of channels; `groups=in_channels` is a depthwise convolution.
        bias: whether each expert has a bias.
        router: whether the layer has a router of its own.
        strategy: see `condconv_mlx.functional.conv2d_per_example`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        num_experts: int = 8,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        router: bool = True,
        strategy: str = "auto",
    ):
        super().__init__()
        _check_counts(
            "CondConv2d", in_channels=in_channels, out_channels=out_channels, num_experts=num_experts, groups=groups
        )
        _check_groups("CondConv2d", groups, in_channels, out_channels)
        kernel = pair(kernel_size, "kernel_size")
        scale = math.sqrt(1 / (in_channels // groups * kernel[0] * kernel[1]))
        self.weight = mx.random.uniform(-scale, scale, (num_experts, out_channels, *kernel, in_channels // groups))
        if bias:
            self.bias = mx.zeros((num_experts, out_channels))
        if router:
            self.router = Router(in_channels, num_experts)
        self.stride = pair(stride, "stride")
        self.padding = padding
        self.dilation = pair(dilation, "dilation")
        self.groups = groups
        self.strategy = strategy

    def _extra_repr(self) -> str:
        experts, out, kh, kw, channels = self.weight.shape
        return (
            f"{channels * self.groups}, {out}, kernel_size={(kh, kw)}, num_experts={experts}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={'bias' in self}"
        )

    def __call__(self, x: mx.array, routing_weights: mx.array | None = None) -> mx.array:
        routing_weights = _routing_weights(self, x, routing_weights)
        return F.cond_conv2d(
            x,
            routing_weights,
            self.weight,
            self.get("bias"),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            strategy=self.strategy,
            exportable=not self.training,
        )


class CondConv1d(nn.Module):
    """A 1-D convolution whose kernel is, for every example, a mixture of experts.

    Input (N, L, Cin), output (N, L', O). Parameters: `weight` (E, O, k, Cin / groups), `bias` (E, O).
    Arguments as in `CondConv2d`, along one axis: `padding` is an integer, (before, after), `"valid"` or `"same"`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        num_experts: int = 8,
        stride: int = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        router: bool = True,
        strategy: str = "auto",
    ):
        super().__init__()
        _check_counts(
            "CondConv1d",
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            num_experts=num_experts,
            stride=stride,
            dilation=dilation,
            groups=groups,
        )
        _check_groups("CondConv1d", groups, in_channels, out_channels)
        scale = math.sqrt(1 / (in_channels // groups * kernel_size))
        self.weight = mx.random.uniform(-scale, scale, (num_experts, out_channels, kernel_size, in_channels // groups))
        if bias:
            self.bias = mx.zeros((num_experts, out_channels))
        if router:
            self.router = Router(in_channels, num_experts)
        self.stride = stride
        self.padding = padding if isinstance(padding, str) else pair(padding, "padding", minimum=0)
        self.dilation = dilation
        self.groups = groups
        self.strategy = strategy

    def _extra_repr(self) -> str:
        experts, out, kernel, channels = self.weight.shape
        return (
            f"{channels * self.groups}, {out}, kernel_size={kernel}, num_experts={experts}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={'bias' in self}"
        )

    def __call__(self, x: mx.array, routing_weights: mx.array | None = None) -> mx.array:
        if x.ndim != 3:
            raise ValueError(f"[CondConv1d] x must be (N, L, Cin), got shape {x.shape}.")
        routing_weights = _routing_weights(self, x, routing_weights)
        padding = self.padding if isinstance(self.padding, str) else ((0, 0), self.padding)
        return F.cond_conv2d(
            x[:, None],
            routing_weights,
            self.weight[:, :, None],
            self.get("bias"),
            stride=(1, self.stride),
            padding=padding,
            dilation=(1, self.dilation),
            groups=self.groups,
            strategy=self.strategy,
            exportable=not self.training,
        )[:, 0]


class CondLinear(nn.Module):
    """A fully connected layer whose matrix is, for every example, a mixture of experts.

    Input (N, ..., I), output (N, ..., O). Parameters: `weight` (E, O, I), `bias` (E, O).
    Each expert starts as `nn.Linear` would.
    """

    def __init__(self, input_dims: int, output_dims: int, num_experts: int = 8, bias: bool = True, router: bool = True):
        super().__init__()
        _check_counts("CondLinear", input_dims=input_dims, output_dims=output_dims, num_experts=num_experts)
        scale = math.sqrt(1 / input_dims)
        self.weight = mx.random.uniform(-scale, scale, (num_experts, output_dims, input_dims))
        if bias:
            self.bias = mx.random.uniform(-scale, scale, (num_experts, output_dims))
        if router:
            self.router = Router(input_dims, num_experts)

    def _extra_repr(self) -> str:
        experts, out, channels = self.weight.shape
        return f"{channels}, {out}, num_experts={experts}, bias={'bias' in self}"

    def __call__(self, x: mx.array, routing_weights: mx.array | None = None) -> mx.array:
        channels = self.weight.shape[2]
        if x.ndim < 2 or x.shape[-1] != channels:
            raise ValueError(f"[CondLinear] x must be (N, ..., {channels}), got shape {x.shape}.")
        routing_weights = _routing_weights(self, x, routing_weights)
        output = F.cond_conv2d(
            x.reshape(x.shape[0], 1, -1, channels),
            routing_weights,
            self.weight[:, :, None, None],
            self.get("bias"),
            exportable=not self.training,
        )
        return output.reshape(*x.shape[:-1], -1)


def _routing_weights(layer: Any, x: mx.array, given: mx.array | None) -> mx.array:
    """The weights given, or else those of the layer's own router."""
    if given is None:
        if "router" not in layer:
            name = type(layer).__name__
            raise ValueError(f"[{name}] built with router=False: call it as layer(x, routing_weights).")
        given = layer.router(x)
    watching = observer.get()
    if watching is not None:
        watching.used(layer, given)
    return given


def _check_counts(where: str, **counts: int) -> None:
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"[{where}] {name} must be an integer >= 1, got {value!r}.")


def _check_groups(where: str, groups: int, in_channels: int, out_channels: int) -> None:
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"[{where}] groups must divide the channels, got {groups} groups for {in_channels} channels in "
            f"and {out_channels} out."
        )
