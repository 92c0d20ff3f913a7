"""Training a network, from its first step or from a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import mlx.nn as nn

from condconv_mlx.data import Dataset
from condconv_mlx.functional.choice import backend
from condconv_mlx.training.distributed import rank_and_size, told_by_first
from condconv_mlx.training.log import append_line
from condconv_mlx.training.loop import Progress, train_on
from condconv_mlx.training.machine import limit_cache
from condconv_mlx.training.precision import float32_norms
from condconv_mlx.training.recomputing import recomputed_blocks
from condconv_mlx.training.routing import mixing
from condconv_mlx.training.run import Run, begin
from condconv_mlx.training.run_folder import locked, saved_step
from condconv_mlx.training.settings import TrainingSettings
from condconv_mlx.training.stopping import Diverged, caught_signals
from condconv_mlx.training.synchronised import synchronised_norms


def train(
    model: nn.Module,
    dataset: Dataset,
    folder: Path,
    settings: TrainingSettings,
    resume: bool = False,
    data: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    pretrained: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a model and keep the best epoch in `folder/best.safetensors`.

    The best epoch is the one with the highest accuracy on the images held out of the training set (the later of two
    equals); the test images are never looked at. Batches, augmentation and dropout follow from the seed and the step
    alone, and a checkpoint holds all else, so a run that was killed at any moment and resumed equals one that was not
    (to the bit on a CPU).

    Several processes (see `distributed`) share each batch and average their gradients; the first one writes. Augmented
    images are those of one process. Batch normalisation takes the statistics of a process's own part of the batch,
    unless `settings.sync_norm`; the running ones are averaged at every checkpoint.

    Args:
        model: from `create_model`, fitting the data set's channels and classes. Trained in place.
        dataset: training images (N, H, W, C) uint8 and labels.
        folder: of the run, see `run_folder`. Saved every epoch, now and then in between, and when interrupted.
        settings: how to train.
        resume: go on from `folder/state.safetensors`.
        data: what `load_dataset` was called with, for the record in `folder/settings.json`.
        on_progress: called after every step.
        pretrained: where the weights at the start come from, for the record, plain JSON. Images are normalised by the
            "mean" and "std" under "input", and the stem keeps its filters.

    Returns:
        A summary: epochs, seconds, the best epoch and its held-out accuracy.

    Raises:
        ValueError: if the data do not fit the model or the settings, or are not those that the run began with, or the
            folder already holds another run.
        Diverged: if the loss or a weight is no longer finite.
        Stopped: after SIGINT or SIGTERM, once all is saved.
        OSError: if a checkpoint cannot be written. The one before stays.
    """
    folder = Path(folder)
    rank, processes = rank_and_size()
    # A run that went wrong before its first step, because of a setting say, may begin again in its place.
    if told_by_first(lambda: not resume and bool(saved_step(folder))):
        raise ValueError(f"{folder} already holds a run: resume it, or name another folder")
    if settings.batch_size % (processes * settings.accumulate):
        parts = f" in {settings.accumulate} parts each" if settings.accumulate > 1 else ""
        raise ValueError(
            f"a batch of {settings.batch_size} images cannot be divided among {processes} processes{parts}"
        )
    check_size(dataset, settings)
    with ExitStack() as stack:
        if rank == 0:
            stack.enter_context(locked(folder))
        limit_cache(settings.cache_gb)
        run = begin(model, dataset, folder, settings, resume, data, pretrained)
        stack.enter_context(prepared(model, settings))
        _logged(run, stack.enter_context(caught_signals()), on_progress)
    return {
        "epochs": run.state.step / run.steps_per_epoch,
        "seconds": run.state.seconds,
        "best_epoch": run.state.best_epoch,
        "held_out_accuracy": run.state.best,
    }


def check_size(dataset: Dataset, settings: TrainingSettings) -> None:
    """`ValueError` if a data set has too few images."""
    count = len(dataset.train_images)
    if settings.holdout + settings.batch_size > count:
        raise ValueError(
            f"{count} training images are too few for {settings.holdout} held out and batches of {settings.batch_size}"
        )


@contextmanager
def prepared(model: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """For the time of the block, the model of a run that has begun computes as the settings say."""
    with ExitStack() as stack:
        stack.enter_context(mixing(model, settings.mixing))
        if settings.sync_norm and rank_and_size()[1] > 1:
            stack.enter_context(synchronised_norms(model))
        if settings.precision == "bfloat16":
            stack.enter_context(float32_norms(model))
        if settings.checkpointing:
            stack.enter_context(recomputed_blocks(model))
        yield


def _logged(run: Run, caught: list[int], on_progress: Callable[[Progress], None] | None) -> None:
    """All steps that are left, with a line in the log when they begin and one that says how they ended."""
    rank, processes = rank_and_size()
    if rank > 0:
        train_on(run, caught, on_progress)
        return
    append_line(
        run.folder,
        "start",
        run.state.step,
        steps=run.steps,
        steps_per_epoch=run.steps_per_epoch,
        batch_size=run.settings.batch_size,
        device=backend(),
        processes=processes,
    )
    reason, message = "failed", ""
    try:
        train_on(run, caught, on_progress)
        reason = "finished"
    except KeyboardInterrupt:
        reason = "stopped"
        raise
    except Diverged as error:
        reason, message = "diverged", str(error)
        raise
    except Exception as error:
        message = str(error)
        raise
    finally:
        # Where the disk is full, what went wrong must still be heard.
        with suppress(OSError):
            append_line(run.folder, "end", run.state.step, reason=reason, message=message)
