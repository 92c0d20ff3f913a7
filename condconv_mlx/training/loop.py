"""The training loop."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from condconv_mlx.data.augmentation import augment_batch
from condconv_mlx.data.batches import source
from condconv_mlx.training.distributed import average_statistics, own_part, rank_and_size, sums
from condconv_mlx.training.epoch import averaged, finish_epoch
from condconv_mlx.training.finetuning import training_mode
from condconv_mlx.training.log import append_line
from condconv_mlx.training.machine import rest
from condconv_mlx.training.optimiser import average_weight, temperature
from condconv_mlx.training.run import Run, Sums
from condconv_mlx.training.run_folder import STATE, all_finite, save_state, state_arrays
from condconv_mlx.training.step import Part, step_function
from condconv_mlx.training.stopping import Diverged, Stopped

LINES = 20  # that an epoch writes into the log, about


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after every step. Loss and accuracy are those of the running epoch's training images."""

    step: int
    steps: int
    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float
    seconds_left: float
    held_out_accuracy: float | None  # of the last finished epoch
    best_accuracy: float


def train_on(run: Run, caught: list[int], on_progress: Callable[[Progress], None] | None) -> None:
    """All steps that are left.

    Args:
        run: changed as it goes on.
        caught: numbers of signals; when there is one, the run saves and raises `Stopped`.
        on_progress: called after every step.
    """
    model, settings, state, optimizer, average = run.model, run.settings, run.state, run.optimizer, run.average
    rank, processes = rank_and_size()
    # On a CPU, compiling needs a C++ compiler on the user's machine, and gains nothing here.
    step_of = step_function(model, optimizer, average, settings, compiled=mx.default_device() != mx.cpu)
    lines_every = max(1, run.steps_per_epoch // LINES)
    started, first, before = time.monotonic(), state.step, state.seconds
    saved, line_began, epoch_began = started, (started, first), (started, first)
    training_mode(model, settings.freeze)
    if run.saved is None and rank == 0:
        _save(run)  # so that a run killed at any moment can go on
    # The same batches twice: pictures that are decoded as they are used are asked for some batches ahead.
    wanted = settings.augmentation.positions(settings.batch_size, own_part(settings.batch_size))
    ahead = (chosen[wanted] for _, chosen in _batches(run, first))
    pixels = source(run.dataset.train_images).prefetch(ahead)
    for (step, chosen), images in zip(_batches(run, first), pixels, strict=True):
        begun = time.monotonic()
        parts = _parts(run, step, chosen, images)
        keep = average_weight(settings.ema, step)
        loss, right = step_of(parts, temperature(settings, step, run.steps_per_epoch), keep)
        mx.eval(loss, right, model.state, optimizer.state, average)
        now = time.monotonic()
        # All processes go by what the first one's clock and any one's signals say.
        due = rank == 0 and _is_due(run, step + 1, now - saved)
        total, correct, save, stop = sums([float(np.array(loss)) / processes, int(np.array(right)), due, len(caught)])
        state.step, state.seconds = step + 1, before + now - started
        if step % run.steps_per_epoch == 0:
            state.epoch, epoch_began = Sums(), (begun, step)
        for each in (state.epoch, state.line):
            each.add(total, round(correct), len(chosen))
        if not np.isfinite(total):
            raise _diverged(run, "the loss")

        epoch_ends = state.step % run.steps_per_epoch == 0 or state.step == run.steps
        if rank == 0 and (state.step % lines_every == 0 or epoch_ends):
            append_line(run.folder, "step", state.step, **_line(run, state.line, line_began, now))
            state.line, line_began = Sums(), (now, state.step)
        if epoch_ends:
            _end_epoch(run, epoch_began)
        elif save or stop:
            _checkpoint(run)
        if epoch_ends or save:
            saved = time.monotonic()
        if on_progress:
            try:
                on_progress(_progress(run, first, time.monotonic() - started))
            except KeyboardInterrupt:
                _checkpoint(run)
                raise
        if stop and state.step < run.steps:
            raise Stopped(caught[0] if caught else signal.SIGTERM)
        rest(settings.rest, now - begun)


def _batches(run: Run, first: int) -> Iterator[tuple[int, np.ndarray]]:
    """(step, indices of its images) from step `first` on, each epoch in an order of its own."""
    size, epoch, order = run.settings.batch_size, -1, run.kept
    for step in range(first, run.steps):
        if step // run.steps_per_epoch != epoch:
            epoch = step // run.steps_per_epoch
            order = np.random.default_rng([run.settings.seed, 1, epoch]).permutation(run.kept)
        start = step % run.steps_per_epoch * size
        yield step, order[start : start + size]


def _parts(run: Run, step: int, chosen: np.ndarray, images: mx.array) -> list[Part]:
    """Inputs and targets of the images that this process trains on, in `accumulate` parts. Seeds MLX.

    Args:
        run: and its `step`.
        chosen: the indices of all images of the batch.
        images: of the batch, those that this process trains on or mixes others with; uint8.
    """
    settings, data, wanted = run.settings, run.dataset, run.model.info["input"]
    rng = np.random.default_rng([settings.seed, 2, step])
    inputs, targets = augment_batch(
        images,
        mx.array(data.train_labels[chosen]),
        len(data.labels),
        settings.augmentation,
        rng,
        wanted["mean"],
        wanted["std"],
        own_part(len(chosen)),
    )
    # Random state belongs to a thread and is not saved, so dropout is reseeded at every step.
    mx.random.seed(int(rng.integers(2**31)) + rank_and_size()[0])
    return list(zip(*(mx.split(each, settings.accumulate) for each in (inputs, targets)), strict=True))


def _is_due(run: Run, step: int, seconds: float) -> bool:
    """Whether a checkpoint is to be written after a step, so many seconds after the last one."""
    minutes, steps = run.settings.save_minutes, run.settings.save_steps
    return bool(minutes and seconds >= 60 * minutes) or bool(steps and step % steps == 0)


def _checkpoint(run: Run) -> None:
    average_statistics(run.model, run.average)
    if rank_and_size()[0] == 0:
        _check_finite(run)
        _save(run)


def _end_epoch(run: Run, began: tuple[float, int]) -> None:
    """Measure the model, log it, keep it if it is the best, and write a checkpoint."""
    average_statistics(run.model, run.average)
    rank, processes = rank_and_size()
    if rank > 0:
        return
    _check_finite(run)
    model, state = run.model, run.state
    epoch = -(-state.step // run.steps_per_epoch)
    model.info["training"] = {"settings": asdict(run.settings), "seconds": round(state.seconds, 1)}
    if processes > 1:
        model.info["training"]["processes"] = processes
    with averaged(model, run.average):
        is_best, found = finish_epoch(model, run.dataset, run.folder, run.held_out, epoch, state.best)
    training_mode(model, run.settings.freeze)
    state.held_out = found["held_out_accuracy"]
    if is_best:
        state.best, state.best_epoch = state.held_out or 0.0, epoch
    line = _line(run, state.epoch, began, time.monotonic()) | {"epoch": epoch}
    append_line(run.folder, "epoch", state.step, **line, **found)
    _save(run)


def _save(run: Run) -> None:
    try:
        save_state(run.folder, run.model, run.optimizer, run.average, asdict(run.state))
    except OSError as error:
        raise OSError(f"{error}. {_last_checkpoint(run)}") from error
    run.saved = run.state.step


def _check_finite(run: Run) -> None:
    if not all_finite(state_arrays(run.model, run.optimizer, run.average)):
        raise _diverged(run, "a weight")


def _diverged(run: Run, what: str) -> Diverged:
    state, settings = run.state, run.settings
    clip = "" if settings.clip else " or a clip of 1"
    return Diverged(
        f"{what} is no longer finite at step {state.step} (epoch {(state.step - 1) // run.steps_per_epoch + 1}). "
        f"{_last_checkpoint(run)} Try a lower learning rate than {settings.learning_rate:g}, a longer warmup{clip}"
    )


def _last_checkpoint(run: Run) -> str:
    if run.saved is None:
        return "There is no checkpoint yet."
    return f"The last good checkpoint is that of step {run.saved}, {run.folder / STATE}."


def _line(run: Run, since: Sums, began: tuple[float, int], now: float) -> dict[str, Any]:
    """What the lines of steps and epochs have in common; `began` is when, and after how many steps."""
    state, (loss, accuracy), (time_then, step_then) = run.state, since.means(), began
    return {
        "epoch": round(state.step / run.steps_per_epoch, 4),
        "loss": round(loss, 5),
        "accuracy": round(accuracy, 5),
        "learning_rate": float(f"{run.optimizer.learning_rate.item():.5g}"),
        "images_per_second": round((state.step - step_then) * run.settings.batch_size / (now - time_then), 1),
        "seconds": round(state.seconds, 1),
        "memory_mb": round(mx.get_peak_memory() / 1e6),
    }


def _progress(run: Run, first: int, elapsed: float) -> Progress:
    """After the steps since `first`, which took so many seconds."""
    state, done = run.state, run.state.step - first
    loss, accuracy = state.epoch.means()
    return Progress(
        step=state.step,
        steps=run.steps,
        epoch=(state.step - 1) // run.steps_per_epoch + 1,
        loss=loss,
        accuracy=accuracy,
        learning_rate=run.optimizer.learning_rate.item(),
        images_per_second=done * run.settings.batch_size / elapsed,
        seconds_left=elapsed / done * (run.steps - state.step),
        held_out_accuracy=state.held_out,
        best_accuracy=state.best,
    )
