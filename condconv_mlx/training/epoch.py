"""What happens at the end of an epoch: the model is measured, logged, and kept if it is the best so far."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from condconv_mlx.checkpoint import named_arrays, save_model
from condconv_mlx.data import Dataset, normalise, subset
from condconv_mlx.explain import trace, usage
from condconv_mlx.training.evaluation import Evaluation, evaluate, images_at_a_time

ROUTED = 250  # held-out images on which the routing is measured


@contextmanager
def averaged(model: nn.Module, average: dict[str, mx.array]) -> Iterator[None]:
    """For the time of the block, the model has the moving average of its arrays; with none it stays as it is."""
    own = named_arrays(model)
    if average:
        model.update(tree_unflatten(list(average.items())))
    try:
        yield
    finally:
        if average:
            model.update(tree_unflatten(list(own.items())))


def finish_epoch(
    model: nn.Module, dataset: Dataset, folder: Path, held_out: np.ndarray, epoch: int, best: float
) -> tuple[bool, dict[str, Any]]:
    """Measure a model on the held-out images, and keep it in `folder/best.safetensors` if nothing was better.

    Args:
        model: its `info` says which images it wants.
        dataset: with the held-out images among those for training.
        folder: of the run.
        held_out: their indices; without any, every epoch is the best.
        epoch: its number, from 1.
        best: the highest accuracy so far.

    Returns:
        Whether it is the best, and the held-out accuracy and loss and the routing for the log.
    """
    result: Evaluation | None = None
    if len(held_out):
        images = subset(dataset.train_images, held_out)
        result = evaluate(model, images, dataset.train_labels[held_out], model.info["input"])
    accuracy = None if result is None else result.accuracy
    is_best = accuracy is None or accuracy >= best
    if is_best:
        model.info["training"].update(epoch=epoch, held_out_accuracy=accuracy)
        save_model(model, folder / "best.safetensors")
    return is_best, {
        "held_out_accuracy": accuracy,
        "held_out_loss": None if result is None else round(result.loss, 5),
        "routing": _routing(model, dataset.train_images[held_out[:ROUTED]]),
    }


def _routing(model: nn.Module, images: np.ndarray) -> dict[str, Any]:
    """By the name of a router, how it uses its experts on some images: see `explain.usage`."""
    if not len(images):
        return {}
    wanted = model.info["input"]
    weights: dict[str, list[np.ndarray]] = {}
    size = images_at_a_time(images)
    for start in range(0, len(images), size):
        traced = trace(model, normalise(images[start : start + size], wanted["mean"], wanted["std"]))
        for router in traced.routers:
            weights.setdefault(router.name, []).append(router.weights)
    return {name: _rounded(asdict(usage(np.concatenate(parts)))) for name, parts in weights.items()}


def _rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [round(v, 4) for v in value] if isinstance(value, tuple) else round(value, 4)
        for name, value in numbers.items()
    }
