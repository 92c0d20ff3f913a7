"""Batch normalisation over the whole batch where several processes share it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.training.distributed import rank_and_size
from condconv_mlx.training.recomputing import acting_as


@contextmanager
def synchronised_norms(model: nn.Module) -> Iterator[None]:
    """For the time of the block, batch normalisation in training takes its statistics over all processes' images."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm) and module.track_running_stats and "weight" in module:
                stack.enter_context(acting_as(module, _synchronised(type(module))))
        yield


@cache
def _synchronised(kind: Any) -> type:
    class Synchronised(kind):
        def __call__(self, x: mx.array) -> mx.array:
            if not self.training:
                return kind.__call__(self, x)
            output, mean, variance = _batch_norm(self.eps)(x, self.weight, self.bias)
            count, new = rank_and_size()[1] * x.size // x.shape[-1], self.momentum
            self.running_mean = (1 - new) * self["running_mean"] + new * mean
            self.running_var = (1 - new) * self["running_var"] + new * variance * (count / max(count - 1, 1))
            return output

    return Synchronised


@cache
def _batch_norm(eps: float) -> Any:
    """(x, weight, bias) -> x normalised over all processes, and the mean and variance (C,) that were used.

    The gradients are those of the sum of all processes' losses by this process's x, weight and bias, so that their mean
    over the processes is the gradient of the mean loss.
    """

    @mx.custom_function
    def normalise(x: mx.array, weight: mx.array, bias: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        mean = _mean(x)
        centred = x - mean
        variance = _mean(centred * centred)
        return centred * (weight * mx.rsqrt(variance + eps)) + bias, mean, variance

    @normalise.vjp
    def gradients(primals: tuple, cotangents: tuple, outputs: tuple) -> tuple[mx.array, mx.array, mx.array]:
        (x, weight, _), (cotangent, *_), (_, mean, variance) = primals, cotangents, outputs
        axes, inverse = tuple(range(x.ndim - 1)), mx.rsqrt(variance + eps)
        normal = (x - mean) * inverse
        of_x = (weight * inverse) * (cotangent - _mean(cotangent) - normal * _mean(cotangent * normal))
        return of_x, (cotangent * normal).sum(axis=axes), cotangent.sum(axis=axes)

    return normalise


def _mean(x: mx.array) -> mx.array:
    """Of each channel of x (N, ..., C), over all processes, whose x have the same shape."""
    mean = x.mean(axis=tuple(range(x.ndim - 1)))
    return mx.distributed.all_sum(mean) / rank_and_size()[1]
