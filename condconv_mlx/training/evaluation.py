"""Accuracy of a model on labelled images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from condconv_mlx.data import StreamedImages
from condconv_mlx.data.batches import normalised, source

AT_A_TIME = 250
PIXELS = 2**20  # at a time


@dataclass(frozen=True)
class Evaluation:
    """What a model got right. `confusion[i, j]` counts the images of class i that it took for class j."""

    count: int
    correct: int
    loss: float
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        """The share of images whose likeliest class is the right one, in [0, 1]."""
        return self.correct / self.count


def evaluate(
    model: nn.Module,
    images: np.ndarray | StreamedImages,
    labels: np.ndarray,
    input_info: dict[str, Any],
    batch_size: int | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Measure a model.

    Args:
        model: the network; put into evaluation mode for the time, and back.
        images: (N, H, W, C) uint8.
        labels: (N,) integers.
        input_info: `mean` and `std` by channel, of images scaled to [0, 1].
        batch_size: images at a time; by default 250, and fewer of more than 64 pixels.
        on_batch: called after each batch with the number of its images.

    Returns:
        Counts, the mean cross entropy in nats, and the confusion matrix (classes, classes).
    """
    if len(images) == 0:
        raise ValueError("there are no images to evaluate on")
    batch_size = batch_size or images_at_a_time(images)
    was_training = model.training
    model.eval()
    confusion, loss = None, 0.0
    batches = np.array_split(np.arange(len(images)), range(batch_size, len(images), batch_size))
    for chosen, pixels in zip(batches, source(images).prefetch(batches), strict=True):
        truth = np.asarray(labels)[chosen]
        logits = model(normalised(pixels, input_info["mean"], input_info["std"]))
        losses = nn.losses.cross_entropy(logits, mx.array(truth), reduction="sum")
        predicted = np.array(mx.argmax(logits, axis=-1))
        loss += float(np.array(losses))
        if confusion is None:
            confusion = np.zeros((logits.shape[1], logits.shape[1]), dtype=np.int64)
        np.add.at(confusion, (truth, predicted), 1)
        if on_batch:
            on_batch(len(truth))
    model.train(was_training)
    assert confusion is not None
    return Evaluation(len(images), int(np.trace(confusion)), loss / len(images), confusion)


def images_at_a_time(images: np.ndarray | StreamedImages) -> int:
    """How many images (N, H, W, C) of that size a network takes at once outside training, where memory is short."""
    return max(1, min(AT_A_TIME, PIXELS // (images.shape[1] * images.shape[2])))
