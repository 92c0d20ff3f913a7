"""What it costs to have the next training batch ready: taken or decoded, augmented, normalised, on the device."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import mlx.core as mx
import numpy as np

from condconv_mlx.data.augmentation import Augmentation, augment_batch
from condconv_mlx.data.batches import source
from condconv_mlx.data.dataset import Dataset
from condconv_mlx.data.transforms import statistics

WARM = 3  # steps that are not counted


@dataclass(frozen=True)
class InputCost:
    """Median milliseconds of a step: until its batch was ready, and what was done with it after that."""

    input_ms: float
    training_ms: float

    @property
    def share(self) -> float:
        """The part of a whole step that went into its input, in [0, 1]."""
        return self.input_ms / (self.input_ms + self.training_ms)


def input_cost(
    dataset: Dataset,
    augmentation: Augmentation,
    train: Callable[[mx.array, mx.array], object],
    batch_size: int = 128,
    steps: int = 20,
) -> InputCost:
    """Measure both in a loop as a trainer runs it, so that what is decoded while `train` computes costs only its rest.

    Args:
        dataset: with at least one training image. Batches are drawn at random.
        augmentation: of the images.
        train: a training step with inputs and targets as `augment_batch` gives them; returns when it is done.
        batch_size: images a step.
        steps: how many are measured, after a few to warm up.
    """
    rng = np.random.default_rng(0)
    count = len(dataset.train_images)
    chosen = [rng.integers(0, count, batch_size) for _ in range(WARM + steps)]
    mean, std = statistics(dataset.train_images, np.concatenate(chosen))
    batches = source(dataset.train_images).prefetch(chosen)
    inputs_ms, training_ms = [], []
    for indices in chosen:
        start = perf_counter()
        labels = mx.array(dataset.train_labels[indices])
        inputs, targets = augment_batch(next(batches), labels, len(dataset.labels), augmentation, rng, mean, std)
        mx.eval(inputs, targets)
        ready = perf_counter()
        train(inputs, targets)
        inputs_ms.append(1e3 * (ready - start))
        training_ms.append(1e3 * (perf_counter() - ready))
    return InputCost(median(inputs_ms[WARM:]), median(training_ms[WARM:]))
