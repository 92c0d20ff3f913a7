"""How long a training will take, measured by some of its real steps."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import mlx.nn as nn
import numpy as np

from condconv_mlx.data import FILES, Dataset, noise
from condconv_mlx.training.loop import Progress, train_on
from condconv_mlx.training.machine import limit_cache
from condconv_mlx.training.run import begin
from condconv_mlx.training.settings import TrainingSettings
from condconv_mlx.training.trainer import check_size, prepared

# Timed until there are enough of them, or they took long enough; the first one, which compiles, does not count.
STEPS, FEWEST, SECONDS = 12, 3, 4.0


@dataclass(frozen=True)
class Estimate:
    """What a training will take here.

    Attributes:
        steps: in all.
        steps_per_epoch: of one epoch.
        seconds_per_step: with what the run leaves to others; the median of a few.
        batch_size: images a step.
    """

    steps: int
    steps_per_epoch: int
    seconds_per_step: float
    batch_size: int

    @property
    def seconds(self) -> float:
        """For all steps. Measuring the model after each epoch comes on top, a few hundredths."""
        return self.steps * self.seconds_per_step

    @property
    def images_per_second(self) -> float:
        """That are trained on."""
        return self.batch_size / self.seconds_per_step


class _Enough(Exception):
    """Enough steps were timed."""


def estimate(
    model: nn.Module, dataset: Dataset, settings: TrainingSettings, pretrained: dict[str, Any] | None = None
) -> Estimate:
    """Train for a few steps, and for nothing: the model is spoilt, and no file is left.

    Takes what `train` does, and refuses what that does.
    """
    check_size(dataset, settings)
    times = [time.monotonic()]

    def note(progress: Progress) -> None:
        times.append(time.monotonic())
        if len(times) > STEPS + 1 or (len(times) > FEWEST + 1 and times[-1] - times[1] > SECONDS):
            raise _Enough

    limit_cache(settings.cache_gb)
    with TemporaryDirectory(prefix="condconv-mlx-") as folder:
        run = begin(model, dataset, Path(folder), settings, False, "", pretrained)
        # A checkpoint at the beginning would take longer than the steps.
        run.saved = 0
        with prepared(model, settings), suppress(_Enough):
            train_on(run, [], note)
    # Of a run of a single step there is nothing else.
    seconds = np.diff(times)[1:] if len(times) > 2 else np.diff(times)
    return Estimate(run.steps, run.steps_per_epoch, float(median(seconds)), settings.batch_size)


def made_up(name: str) -> Dataset:
    """Noise in the place of a known data set: nothing has to be downloaded. `KeyError` for another name."""
    files = FILES[name]
    return noise(name, files.labels, files.count, files.shape)
