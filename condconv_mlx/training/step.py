"""One step of training: the loss, its gradients, and what they change."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from condconv_mlx.training.distributed import rank_and_size
from condconv_mlx.training.optimiser import update_average
from condconv_mlx.training.precision import bfloat16_copy, frozen_parameters
from condconv_mlx.training.routing import imbalance, recorded_routing, tempered
from condconv_mlx.training.settings import TrainingSettings

# Parts of a batch, each (images, targets); temperature; share of the old average -> loss, and how many were right.
Part = tuple[mx.array, mx.array]
StepFunction = Callable[[Sequence[Part], float, float], tuple[mx.array, mx.array]]


def step_function(
    model: nn.Module,
    optimizer: optim.Optimizer,
    average: dict[str, mx.array],
    settings: TrainingSettings,
    compiled: bool,
) -> StepFunction:
    """What does a step, and leaves it lazy.

    Args:
        model: in training mode. Changed in place, like the two that follow.
        optimizer: initialised.
        average: the moving average of all arrays by name, or empty for none.
        settings: how to train.
        compiled: put it together by `mx.compile`; on a CPU that needs a C++ compiler.
    """
    _, processes = rank_and_size()
    state = [model.state, optimizer.state, average, mx.random.state]
    assembled: Any = partial(mx.compile, inputs=state, outputs=state) if compiled else lambda function: function
    gradients_of = partial(_gradients, model, settings)

    def apply(gradients: dict, keep: mx.array) -> mx.array:
        if processes > 1:
            gradients = nn.average_gradients(gradients)
        if settings.clip:
            gradients, _ = optim.clip_grad_norm(gradients, settings.clip)
        optimizer.update(model, gradients)
        if average:
            update_average(average, model, keep)
        return keep

    @assembled
    def whole(images: mx.array, targets: mx.array, temperature: mx.array, keep: mx.array) -> tuple[mx.array, mx.array]:
        loss, right, gradients = gradients_of(images, targets, temperature)
        apply(gradients, keep)
        return loss, right

    gradients_of_part, apply_sum = assembled(gradients_of), assembled(apply)

    def step(parts: Sequence[Part], temperature: float, keep: float) -> tuple[mx.array, mx.array]:
        if len(parts) == 1:
            return whole(*parts[0], mx.array(temperature), mx.array(keep))
        total: Any = None
        for images, targets in parts:
            new = gradients_of_part(images, targets, mx.array(temperature))
            total = new if total is None else tree_map(mx.add, total, new)
            # Done now, so that what one part needs on the way is free for the next.
            mx.eval(total, model.state)
        loss, right, gradients = total
        apply_sum(tree_map(lambda gradient: gradient / len(parts), gradients), mx.array(keep))
        return loss / len(parts), right

    return step


def _gradients(
    model: nn.Module, settings: TrainingSettings, images: mx.array, targets: mx.array, temperature: mx.array
) -> tuple[mx.array, mx.array, dict]:
    """The loss, how many were right, and the gradients of the trainable parameters, all for one part of a batch."""
    half = settings.precision == "bfloat16"

    def loss_and_right(parameters: dict) -> tuple[mx.array, mx.array]:
        model.update(bfloat16_copy(model, parameters) if half else parameters)
        with ExitStack() as stack:
            routing = stack.enter_context(recorded_routing()) if settings.balance else []
            if settings.temperature_epochs:
                stack.enter_context(tempered(model, temperature))
            logits = model(images.astype(mx.bfloat16) if half else images)
        if half:
            logits = logits.astype(mx.float32)
        loss = nn.losses.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing, reduction="mean")
        if settings.balance:
            loss = loss + settings.balance * imbalance(routing)
        truth = targets if targets.ndim == 1 else mx.argmax(targets, axis=-1)
        return loss, (mx.argmax(logits, axis=-1) == truth).sum()

    trainable, frozen = model.trainable_parameters(), frozen_parameters(model)
    if half:
        model.update(bfloat16_copy(model, frozen))
        temperature = temperature.astype(mx.bfloat16)
    (loss, right), gradients = mx.value_and_grad(loss_and_right)(trainable)
    # The weights are float32 throughout; what went through the network was a copy.
    if half:
        model.update(trainable)
        model.update(frozen)
    return loss, right, gradients
