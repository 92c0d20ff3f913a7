"""A run: what it is made of, and how it begins or goes on from its checkpoint."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.data import Dataset, normalise, statistics
from condconv_mlx.static_layers import Conv2d
from condconv_mlx.training.distributed import rank_and_size, same_as_first, sums, told_by_first
from condconv_mlx.training.finetuning import freeze_backbone
from condconv_mlx.training.log import drop_lines_after
from condconv_mlx.training.optimiser import optimizer_for
from condconv_mlx.training.run_folder import load_state, read_json, write_json
from condconv_mlx.training.settings import TrainingSettings
from condconv_mlx.training.whitening import whiten

# Images from which the whitening filters come, at most; fewer of more than 64 pixels.
WHITENED, WHITENED_PIXELS = 2000, 2**23


@dataclass
class Sums:
    """Of the loss, the right answers and the images since some step."""

    loss: float = 0.0
    right: int = 0
    seen: int = 0

    def add(self, loss: float, right: int, seen: int) -> None:
        """Another batch, with its mean loss."""
        self.loss += loss * seen
        self.right += right
        self.seen += seen

    def means(self) -> tuple[float, float]:
        """The loss and the accuracy."""
        return self.loss / self.seen, self.right / self.seen


@dataclass
class State:
    """Where a run stands after `step` steps: what a checkpoint holds beside arrays."""

    step: int = 0
    seconds: float = 0.0
    best: float = 0.0
    best_epoch: int = 0
    held_out: float | None = None  # accuracy after the last finished epoch
    epoch: Sums = field(default_factory=Sums)  # since the epoch began
    line: Sums = field(default_factory=Sums)  # since the last line of the log


@dataclass
class Run:
    """What the parts of a run share.

    Attributes:
        kept, held_out: indices of the training images.
        steps, steps_per_epoch: in all, and of one epoch.
        average: the moving average of the model's arrays by name, or empty.
        saved: the step of the checkpoint, or None.
    """

    model: nn.Module
    dataset: Dataset
    folder: Path
    settings: TrainingSettings
    kept: np.ndarray
    held_out: np.ndarray
    steps: int
    steps_per_epoch: int
    optimizer: optim.Optimizer
    average: dict[str, mx.array]
    state: State
    saved: int | None


def begin(
    model: nn.Module,
    dataset: Dataset,
    folder: Path,
    settings: TrainingSettings,
    resume: bool,
    data: str,
    pretrained: dict[str, Any] | None,
) -> Run:
    """A run before its first step, or as it was at its checkpoint."""
    rank, _ = rank_and_size()
    digest = dataset.digest()
    if sums([digest != told_by_first(lambda: digest)])[0]:
        raise ValueError("the training images are not the same for all processes")
    images = dataset.train_images
    order = np.random.default_rng([settings.seed, 0]).permutation(len(images))
    held_out, kept = order[: settings.holdout], order[settings.holdout :]
    wanted = (pretrained or {}).get("input")
    mean, std = (wanted["mean"], wanted["std"]) if wanted else statistics(images, kept)
    model.info.update(
        dataset=dataset.name,
        labels=list(dataset.labels),
        input={"size": images.shape[1], "channels": images.shape[3], "mean": mean, "std": std},
    )
    steps_per_epoch = len(kept) // settings.batch_size
    steps = max(1, round(settings.epochs * steps_per_epoch))
    if settings.freeze:
        freeze_backbone(model)
    optimizer = optimizer_for(settings, steps, steps_per_epoch)
    optimizer.init(model.trainable_parameters())
    fresh = not resume and not pretrained
    if settings.whiten and fresh and isinstance(getattr(model, "stem", None), Conv2d):
        few = min(WHITENED, WHITENED_PIXELS // (images.shape[1] * images.shape[2]))
        whiten(model.stem, normalise(images[kept[:few]], mean, std))
    average = dict(named_arrays(model)) if settings.ema else {}
    state = State()
    if resume:
        saved = told_by_first(lambda: load_state(folder, model, optimizer, average))
        _check_began_with(digest, dataset, folder)
        # A run of an earlier version has no sums, and was saved only where they begin anew.
        epoch, line = (Sums(**saved.pop(name, {})) for name in ("epoch", "line"))
        state = State(**saved, epoch=epoch, line=line)
    model.update(same_as_first(model.parameters()))
    optimizer.state = same_as_first(optimizer.state)
    average.update(tree_flatten(same_as_first(tree_unflatten(list(average.items())))))
    if rank == 0:
        drop_lines_after(folder, state.step)
        write_json(
            folder / "settings.json",
            {
                "data": data,
                "source": dataset.source,
                "digest": digest,
                "config": model.config,
                "training": asdict(settings),
                "pretrained": pretrained,
            }
            | ({"skipped": dataset.skipped} if dataset.skipped else {}),
        )
    return Run(
        model=model,
        dataset=dataset,
        folder=folder,
        settings=settings,
        kept=kept,
        held_out=held_out,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        optimizer=optimizer,
        average=average,
        state=state,
        saved=state.step if resume else None,
    )


def _check_began_with(digest: str, dataset: Dataset, folder: Path) -> None:
    """`ValueError` unless a run that goes on began with these training images.

    Which ones are held out goes by their places: with others it would be measured on images that it has seen.
    """
    # A run of an earlier version does not say.
    if digest != told_by_first(lambda: read_json(folder / "settings.json").get("digest", digest)):
        raise ValueError(
            f"the training images of {dataset.name} are no longer those that {folder} began with: put them back, "
            f"or begin a new run with --from {folder / 'best.safetensors'}"
        )
