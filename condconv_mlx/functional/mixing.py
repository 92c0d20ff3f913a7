"""Mixing expert kernels by routing weights."""

import math

import mlx.core as mx


def mix_experts(routing_weights: mx.array, experts: mx.array) -> mx.array:
    """The kernel of every example: its routing weights times the experts (paper, equation 1).

    Args:
        routing_weights: (N, E), one weight per example and expert.
        experts: (E, ...), one kernel (or bias, or matrix) per expert.

    Returns:
        (N, ...) in the dtype of `experts`: for example n, the sum over e of routing_weights[n, e] * experts[e].

    Raises:
        ValueError: if `routing_weights` is not a matrix or the numbers of experts differ.
    """
    if routing_weights.ndim != 2:
        raise ValueError(f"[mix_experts] routing_weights must be (N, E), got shape {routing_weights.shape}.")
    if experts.ndim < 1 or experts.shape[0] != routing_weights.shape[1]:
        raise ValueError(
            f"[mix_experts] routing_weights {routing_weights.shape} weigh {routing_weights.shape[1]} experts, "
            f"but experts have shape {experts.shape}."
        )
    shape = experts.shape[1:]
    flat = experts.reshape(experts.shape[0], math.prod(shape))
    return (routing_weights.astype(experts.dtype) @ flat).reshape(-1, *shape)
