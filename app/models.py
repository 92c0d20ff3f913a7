"""The models that there are, and what each says of itself."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condconv_mlx.app import engine, store

BEST = "best.safetensors"


@dataclass(frozen=True)
class Card:
    """What a model says of itself.

    `network` is its name in `create_model`. `num_experts` is None for a static network. `accuracy` is in [0, 1],
    measured on `measured_on`, or None. `crop` and `interpolation` are those of `fit_image`.
    """

    name: str
    network: str
    dataset: str
    labels: tuple[str, ...]
    size: int
    channels: int
    num_experts: int | None
    accuracy: float | None
    measured_on: str
    crop: float | None = None
    interpolation: str = "lanczos"


@dataclass(frozen=True)
class Published:
    """Weights on the Hugging Face hub, without loading them.

    `network` is its name for people. `source` is the repository, less "https://". `here` tells whether the weights are
    on this machine.
    """

    name: str
    network: str
    num_experts: int | None
    megabytes: int
    source: str
    here: bool
    dataset: str = "imagenet"


def names() -> list[str]:
    """Of the weights that can be chosen: those that are shipped, those trained or opened here, then `published`."""
    return [*_shipped(), *map(str, trained()), *map(str, store.models()), *published()]


def trained() -> list[Path]:
    """The best weights of each training run in one of `run_folders`, the newest run first."""
    found: list[tuple[float, Path]] = []
    for path in (path for folder in run_folders() for path in folder.glob(f"*/{BEST}")):
        # Its run may be deleted meanwhile.
        with suppress(OSError):
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


def run_folders() -> list[Path]:
    """Where training runs are looked for: ./runs, and CONDCONV_MLX_RUNS or else ~/condconv-mlx/runs."""
    own = os.environ.get("CONDCONV_MLX_RUNS") or Path.home() / "condconv-mlx" / "runs"
    return list(dict.fromkeys((Path("runs").resolve(), Path(own).expanduser().resolve())))


def find(path: str) -> str:
    """The file that a user means by a path: of weights, or of a run the best. FileNotFoundError if there is none."""
    file = Path(path.strip().strip("'\"")).expanduser().resolve()
    if file.is_dir():
        file = file / BEST
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    return str(file)


def published() -> dict[str, Published]:
    """Weights that may have to be downloaded first (`condconv_mlx.app.downloads`), by name. Uses no network."""
    from condconv_mlx.convert.hub import HUB_MODELS, cached

    return {
        name: Published(
            name=name,
            network=f"EfficientNet-{model.network.rsplit('_', 1)[1].upper()}",
            num_experts=model.experts,
            megabytes=model.megabytes,
            source=f"huggingface.co/{model.repo}",
            here=cached(name) is not None,
        )
        for name, model in HUB_MODELS.items()
        # A file of one's own goes first, as on the command line.
        if name not in _shipped()
    }


def describe(name: str) -> Card:
    """What a model says of itself, by its name or the path of its file. Raises CheckpointError if it cannot be used."""
    from condconv_mlx.checkpoint import is_ours, read_metadata

    if name in published() or not is_ours(engine.file_of(name)):
        return engine.call(name, _say, name)
    # On this thread, so that nobody waits for a computation of another tab.
    said = json.loads(read_metadata(engine.file_of(name))["condconv_mlx"])
    return _card(name, said["config"], said["info"])


def _say(model: Any, name: str) -> Card:
    return _card(name, model.config, model.info)


def _card(name: str, config: dict[str, Any], info: dict[str, Any]) -> Card:
    from condconv_mlx.checkpoint import CheckpointError

    try:
        training = info.get("training", {})
        tested = training.get("test_accuracy")
        labels, classes = info.get("labels", []), int(config["num_classes"])
        return Card(
            name=name,
            network=config["name"],
            dataset=info.get("dataset", ""),
            # A network that names none, or others, can be looked at all the same.
            labels=tuple(labels if len(labels) == classes else [f"class {n}" for n in range(1, classes + 1)]),
            size=int(info["input"]["size"]),
            channels=int(info["input"]["channels"]),
            num_experts=config.get("num_experts"),
            accuracy=training.get("held_out_accuracy") if tested is None else tested,
            measured_on="held-out images" if tested is None else "test images",
            crop=info["input"].get("crop"),
            interpolation=info["input"].get("interpolation", "lanczos"),
        )
    except KeyError as error:
        raise CheckpointError(f"The weights of {name} cannot be used on pictures: they lack {error.args[0]}") from error


def _shipped() -> list[str]:
    from condconv_mlx.checkpoint import list_weights

    return list_weights()
