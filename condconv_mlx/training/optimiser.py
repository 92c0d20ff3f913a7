"""What changes the weights, and how fast."""

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from condconv_mlx.training.muon import Muon
from condconv_mlx.training.settings import TrainingSettings

# Of the one-cycle schedule, as PyTorch's OneCycleLR has them.
RISING, START, END = 0.3, 1 / 25, 1 / 25e4
BESIDE_MUON = 4.0  # times its learning rate: for SGD, of what is no kernel of a convolution

Schedule = Callable[[mx.array], mx.array]


def optimizer_for(settings: TrainingSettings, steps: int, steps_per_epoch: int) -> optim.Optimizer:
    """SGD, AdamW or Muon with the schedule of a run of `steps` steps.

    Muon is for the kernels of convolutions, and they alone decay; the rest is trained by SGD, at `BESIDE_MUON` times
    the rate.
    """
    schedule = learning_rates(settings, steps, steps_per_epoch)
    if settings.optimizer == "muon":
        muon = Muon(schedule, momentum=0.9, weight_decay=settings.weight_decay)
        rest = optim.SGD(lambda step: BESIDE_MUON * schedule(step), momentum=0.9, nesterov=True)
        return optim.MultiOptimizer([muon, rest], [_is_convolution])

    def optimizer(weight_decay: float) -> optim.Optimizer:
        if settings.optimizer == "adamw":
            return optim.AdamW(schedule, weight_decay=weight_decay)
        return optim.SGD(schedule, momentum=0.9, weight_decay=weight_decay, nesterov=True)

    if settings.decay == "all":
        return optimizer(settings.weight_decay)
    return optim.MultiOptimizer([optimizer(settings.weight_decay), optimizer(0.0)], [_is_kernel])


def _is_kernel(name: str, value: mx.array) -> bool:
    """Whether a parameter multiplies inputs: neither a bias, in CondConv a matrix, nor that of a normalisation."""
    return name.rpartition(".")[2] == "weight" and value.ndim > 1


def _is_convolution(name: str, value: mx.array) -> bool:
    """Whether a parameter is the kernel, or kernels, of a convolution of more than one channel a group."""
    return value.ndim > 3 and value.shape[-1] > 1


def learning_rates(settings: TrainingSettings, steps: int, steps_per_epoch: int) -> Schedule:
    """The learning rate by step, from 0."""
    peak = settings.learning_rate
    if settings.schedule == "one-cycle":
        return _one_cycle(peak, steps)
    warmup = min(round(settings.warmup * steps_per_epoch), steps - 1)
    schedule: Any = optim.cosine_decay(peak, steps - warmup)
    if warmup:
        rising = optim.linear_schedule(peak / warmup, peak, warmup)
        schedule = optim.join_schedules([rising, schedule], [warmup])
    return schedule


def _one_cycle(peak: float, steps: int) -> Schedule:
    top = max(1.0, RISING * steps - 1)
    rest = max(1.0, steps - 1 - top)

    def along_cosine(start: float, end: float, share: mx.array) -> mx.array:
        return end + (start - end) / 2 * (1 + mx.cos(math.pi * mx.clip(share, 0, 1)))

    def schedule(step: mx.array) -> mx.array:
        rising = along_cosine(START * peak, peak, step / top)
        return mx.where(step <= top, rising, along_cosine(peak, END * peak, (step - top) / rest))

    return schedule


def temperature(settings: TrainingSettings, step: int, steps_per_epoch: int) -> float:
    """What the logits of softmax routers are divided by at a step (Dynamic Convolution, arXiv 1912.03458).

    At a high temperature all experts get gradients while they are still alike.
    """
    if not settings.temperature_epochs:
        return 1.0
    done = min(1.0, step / (settings.temperature_epochs * steps_per_epoch))
    return settings.temperature + (1 - settings.temperature) * done


def average_weight(decay: float, step: int) -> float:
    """The share of the old average that stays at a step, from 0: rising, so that the first weights are soon forgotten.

    Source: TensorFlow's ExponentialMovingAverage with `num_updates`.
    """
    return min(decay, (1 + step) / (10 + step))


def update_average(average: dict[str, mx.array], model: nn.Module, keep: mx.array) -> None:
    """Move an average of all arrays of a model towards what they are, statistics of batch normalisation too."""
    from condconv_mlx.checkpoint import named_arrays

    for name, value in named_arrays(model).items():
        average[name] = keep * average[name] + (1 - keep) * value
