"""CondConv as a plain loop, one example after the other in MLX's own convolution: what to compare with."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

Pads = tuple[tuple[int, int], tuple[int, int]]


def mix_experts(routing_weights: mx.array, experts: mx.array) -> mx.array:
    """(N, E), (E, ...) -> (N, ...)."""
    mixed = []
    for weights in routing_weights:
        mixed.append(sum((weights[e] * experts[e] for e in range(len(experts))), mx.zeros(experts.shape[1:])))
    return mx.stack(mixed)


def conv2d_per_example(
    x: mx.array,
    kernels: Sequence[mx.array] | mx.array,
    bias: mx.array | None = None,
    *,
    stride: tuple[int, int],
    padding: Pads,
    dilation: tuple[int, int],
    groups: int,
) -> mx.array:
    """x (N, H, W, Cin), N kernels (O, kh, kw, Cin / groups), bias (N, O) -> (N, H', W', O)."""
    outputs = []
    for n in range(len(x)):
        padded = mx.pad(x[n : n + 1], [(0, 0), *padding, (0, 0)])
        output = mx.conv2d(padded, kernels[n], stride, 0, dilation, groups)
        outputs.append(output if bias is None else output + bias[n])
    return mx.concatenate(outputs)


def cond_conv2d(
    x: mx.array, routing_weights: mx.array, experts: mx.array, bias: mx.array, **arguments: Any
) -> mx.array:
    """x (N, H, W, Cin), (N, E), (E, O, kh, kw, Cin / groups), bias (E, O) -> (N, H', W', O)."""
    kernels, mixed_bias = mix_experts(routing_weights, experts), mix_experts(routing_weights, bias)
    return conv2d_per_example(x, kernels, mixed_bias, **arguments)


def route(router: Any, x: mx.array) -> mx.array:
    """The routing weights (N, E) of a `condconv_mlx.Router` in training without dropout, for x (N, ..., C)."""
    pooled = x.reshape(len(x), -1, x.shape[-1]).mean(axis=1)
    if "norm" in router:
        pooled = batch_norm(pooled, router.norm.weight, router.norm.bias)
    if "hidden" in router:
        pooled = mx.maximum(pooled @ router.hidden.weight.T + router.hidden.bias, 0)
    logits = pooled @ router.linear.weight.T + router.linear.bias
    if router.activation == "sigmoid":
        return 1 / (1 + mx.exp(-logits))
    exponentials = mx.exp(logits / router.temperature)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def batch_norm(x: mx.array, weight: mx.array, bias: mx.array, eps: float = 1e-5) -> mx.array:
    """x (N, ..., C), weight and bias (C,), one channel after the other."""
    channels = []
    for c in range(x.shape[-1]):
        centred = x[..., c] - x[..., c].mean()
        channels.append(centred / mx.sqrt((centred * centred).mean() + eps) * weight[c] + bias[c])
    return mx.stack(channels, axis=-1)
