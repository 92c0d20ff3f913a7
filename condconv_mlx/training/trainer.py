"""The training loop."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from condconv_mlx.checkpoint import save_model
from condconv_mlx.data import Dataset, augment, normalise, statistics
from condconv_mlx.explain import trace, usage
from condconv_mlx.static_layers import Conv2d
from condconv_mlx.training.distributed import (
    average_statistics,
    own_part,
    rank_and_size,
    same_as_first,
    told_by_first,
)
from condconv_mlx.training.evaluation import evaluate
from condconv_mlx.training.run_folder import STATE, load_state, save_state, write_json
from condconv_mlx.training.whitening import whiten

ROUTED = 250  # held-out images on which the routing is measured after each epoch


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. The learning rate rises linearly from 0 for `warmup` epochs, then falls to 0 along a cosine."""

    epochs: float = 30
    batch_size: int = 128
    optimizer: str = "sgd"  # with Nesterov momentum 0.9; or "adamw"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    warmup: float = 1.0
    label_smoothing: float = 0.1
    shift: int = 2  # pixels, at most, in each direction
    flip: bool = True
    cutout: int = 0  # side in pixels of a square about a random pixel that is hidden
    whiten: bool = True  # begin with whitening filters in the model's `stem`, if it has one
    holdout: int = 1000  # training images kept aside, by which the best epoch is chosen
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adamw"):
            raise ValueError(f'optimizer must be "sgd" or "adamw", got "{self.optimizer}"')
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup", "shift", "cutout", "holdout", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after every step. Loss and accuracy are those of the running epoch's training images."""

    step: int
    steps: int
    epoch: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float
    held_out_accuracy: float | None  # of the last finished epoch
    best_accuracy: float


def train(
    model: nn.Module,
    dataset: Dataset,
    folder: Path,
    settings: TrainingSettings,
    resume: bool = False,
    data: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train a model and keep the best epoch in `folder/best.safetensors`.

    The best epoch is the one with the highest accuracy on the images held out of the training set (the later of two
    equals); the test images are never looked at. Batches, augmentation and dropout follow from the seed and the step
    alone, so a run that was interrupted and resumed equals one that was not (to the bit on a CPU).

    Several processes (see `distributed`) share each batch and average their gradients; the first one writes. Augmented
    images are those of one process. Batch normalisation takes the statistics of a process's own part of the batch; the
    running ones are averaged after every epoch.

    Args:
        model: from `create_model`, fitting the data set's channels and classes. Trained in place.
        dataset: training images (N, H, W, C) uint8 and labels.
        folder: of the run, see `run_folder`. Saved every epoch, and when interrupted.
        settings: how to train.
        resume: go on from `folder/state.safetensors`.
        data: what `load_dataset` was called with, for the record in `folder/settings.json`.
        on_progress: called after every step.

    Returns:
        A summary: epochs, seconds, the best epoch and its held-out accuracy.

    Raises:
        ValueError: if the data do not fit the model or the settings, or the folder already holds another run.
    """
    folder = Path(folder)
    rank, processes = rank_and_size()
    if told_by_first(lambda: not resume and (folder / STATE).exists()):
        raise ValueError(f"{folder} already holds a run: resume it, or name another folder")
    if settings.batch_size % processes:
        raise ValueError(f"a batch of {settings.batch_size} images cannot be divided among {processes} processes")
    count = len(dataset.train_images)
    if settings.holdout + settings.batch_size > count:
        raise ValueError(
            f"{count} training images are too few for {settings.holdout} held out and batches of {settings.batch_size}"
        )

    order = np.random.default_rng([settings.seed, 0]).permutation(count)
    held_out, kept = order[: settings.holdout], order[settings.holdout :]
    images, labels = dataset.train_images, dataset.train_labels
    mean, std = statistics(images[kept])
    model.info.update(
        dataset=dataset.name,
        labels=list(dataset.labels),
        input={"size": images.shape[1], "channels": images.shape[3], "mean": mean, "std": std},
    )
    steps_per_epoch = len(kept) // settings.batch_size
    steps = max(1, round(settings.epochs * steps_per_epoch))
    optimizer = _optimizer(settings, steps, steps_per_epoch)
    optimizer.init(model.trainable_parameters())
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": 0.0, "best_epoch": 0}
    if settings.whiten and not resume and isinstance(getattr(model, "stem", None), Conv2d):
        whiten(model.stem, normalise(images[kept[:2000]], mean, std))
    if resume:
        state = told_by_first(lambda: load_state(folder, model, optimizer))
    model.update(same_as_first(model.parameters()))
    optimizer.state = same_as_first(optimizer.state)
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            folder / "settings.json",
            {"data": data, "source": dataset.source, "config": model.config, "training": asdict(settings)},
        )

    # On a CPU, compiling needs a C++ compiler on the user's machine, and gains nothing here.
    step_function = _step_function(model, optimizer, settings, compiled=mx.default_device() != mx.cpu)
    held_out_accuracy = None
    total_loss = correct = seen = 0.0
    started, first_step, before = time.monotonic(), state["step"], state["seconds"]
    model.train()
    try:
        for step, chosen in _batches(kept, settings, steps_per_epoch, first_step, steps):
            rng = np.random.default_rng([settings.seed, 2, step])
            batch = augment(images[chosen], rng, settings.shift, settings.flip, settings.cutout, fill=mean)
            # Random state belongs to a thread and is not saved, so dropout is reseeded at every step.
            mx.random.seed(int(rng.integers(2**31)) + rank)
            inputs = mx.array(normalise(own_part(batch), mean, std))
            loss, right = step_function(inputs, mx.array(own_part(labels[chosen])))
            mx.eval(loss, right, model.state, optimizer.state)
            state["step"] = step + 1
            elapsed = time.monotonic() - started
            state["seconds"] = before + elapsed

            if step % steps_per_epoch == 0:
                total_loss = correct = seen = 0.0
            total_loss += float(np.array(loss)) * len(chosen)
            correct += int(np.array(right))
            seen += len(chosen)
            if not np.isfinite(total_loss):
                raise ValueError(
                    f"the loss is no longer finite at step {step + 1}: try a lower learning rate than "
                    f"{settings.learning_rate:g}"
                )
            if (step + 1) % steps_per_epoch == 0 or step + 1 == steps:
                average_statistics(model)
                if rank == 0:
                    epoch = -(-(step + 1) // steps_per_epoch)
                    model.info["training"] = {"settings": asdict(settings), "seconds": round(state["seconds"], 1)}
                    if processes > 1:
                        model.info["training"]["processes"] = processes
                    held_out_accuracy = _finish_epoch(
                        model, dataset, folder, held_out, epoch, state, total_loss / seen, correct / seen
                    )
                    save_state(folder, model, optimizer, state)
            if on_progress:
                done = step + 1 - first_step
                on_progress(
                    Progress(
                        step=step + 1,
                        steps=steps,
                        epoch=step // steps_per_epoch + 1,
                        loss=total_loss / seen,
                        accuracy=correct / seen,
                        images_per_second=done * settings.batch_size / elapsed,
                        seconds_left=elapsed / done * (steps - step - 1),
                        held_out_accuracy=held_out_accuracy,
                        best_accuracy=state["best"],
                    )
                )
    except KeyboardInterrupt:
        if rank == 0:
            save_state(folder, model, optimizer, state)
        raise
    return {
        "epochs": state["step"] / steps_per_epoch,
        "seconds": state["seconds"],
        "best_epoch": state["best_epoch"],
        "held_out_accuracy": state["best"],
    }


def _optimizer(settings: TrainingSettings, steps: int, steps_per_epoch: int) -> optim.Optimizer:
    warmup = min(round(settings.warmup * steps_per_epoch), steps - 1)
    schedule = optim.cosine_decay(settings.learning_rate, steps - warmup)
    if warmup:
        rising = optim.linear_schedule(settings.learning_rate / warmup, settings.learning_rate, warmup)
        schedule = optim.join_schedules([rising, schedule], [warmup])
    if settings.optimizer == "adamw":
        return optim.AdamW(schedule, weight_decay=settings.weight_decay)
    return optim.SGD(schedule, momentum=0.9, weight_decay=settings.weight_decay, nesterov=True)


def _step_function(
    model: nn.Module, optimizer: optim.Optimizer, settings: TrainingSettings, compiled: bool
) -> Callable[[mx.array, mx.array], tuple[mx.array, mx.array]]:
    def loss_and_correct(images: mx.array, labels: mx.array) -> tuple[mx.array, mx.array]:
        logits = model(images)
        loss = nn.losses.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing, reduction="mean")
        return loss, (mx.argmax(logits, axis=-1) == labels).sum()

    value_and_grad = nn.value_and_grad(model, loss_and_correct)

    _, processes = rank_and_size()

    def step(images: mx.array, labels: mx.array) -> tuple[mx.array, mx.array]:
        (loss, right), gradients = value_and_grad(images, labels)
        if processes > 1:
            gradients = nn.average_gradients(gradients)
            loss, right = mx.distributed.all_sum(mx.stack([loss / processes, right.astype(mx.float32)]))
        optimizer.update(model, gradients)
        return loss, right

    if not compiled:
        return step
    state = [model.state, optimizer.state, mx.random.state]
    return mx.compile(step, inputs=state, outputs=state)


def _batches(
    kept: np.ndarray, settings: TrainingSettings, steps_per_epoch: int, first: int, last: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(step, indices of its images), each epoch in an order of its own."""
    epoch, order = -1, kept
    for step in range(first, last):
        if step // steps_per_epoch != epoch:
            epoch = step // steps_per_epoch
            order = np.random.default_rng([settings.seed, 1, epoch]).permutation(kept)
        start = step % steps_per_epoch * settings.batch_size
        yield step, order[start : start + settings.batch_size]


def _finish_epoch(
    model: nn.Module,
    dataset: Dataset,
    folder: Path,
    held_out: np.ndarray,
    epoch: int,
    state: dict[str, Any],
    loss: float,
    accuracy: float,
) -> float | None:
    """Measure the epoch, log it, and keep the model if it is the best so far. Updates `state`."""
    result = None
    if len(held_out):
        result = evaluate(
            model, dataset.train_images[held_out], dataset.train_labels[held_out], model.info["input"]
        ).accuracy
    if result is None or result >= state["best"]:
        state.update(best=result or 0.0, best_epoch=epoch)
        model.info["training"].update(epoch=epoch, held_out_accuracy=result)
        save_model(model, folder / "best.safetensors")
    line = {
        "epoch": epoch,
        "loss": round(loss, 5),
        "accuracy": round(accuracy, 5),
        "held_out_accuracy": result,
        "seconds": round(state["seconds"], 1),
        "memory_mb": round(mx.get_peak_memory() / 1e6),
        "routing": _routing(model, dataset.train_images[held_out[:ROUTED]]),
    }
    with open(folder / "log.jsonl", "a") as log:
        log.write(json.dumps(line) + "\n")
    return result


def _routing(model: nn.Module, images: np.ndarray) -> dict[str, Any]:
    """By the name of a router, how it uses its experts on some images: see `explain.usage`."""
    if not len(images):
        return {}
    wanted = model.info["input"]
    traced = trace(model, normalise(images, wanted["mean"], wanted["std"]))
    return {router.name: _rounded(asdict(usage(router.weights))) for router in traced.routers}


def _rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [round(v, 4) for v in value] if isinstance(value, tuple) else round(value, 4)
        for name, value in numbers.items()
    }
