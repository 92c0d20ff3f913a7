"""Owns MLX: every call runs on one thread for the life of the process, and only NumPy comes back.

MLX's streams belong to a thread, and Streamlit runs each rerun of a page on a new one.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
BATCH = 64
# What a network computes on the way grows with the pixels: 64 images of 64 × 64, 5 of 224 × 224.
BATCH_PIXELS = 2**18
# Of all models together. The largest of the published ones takes 160 MB.
KEPT_BYTES = 2**29
KEPT_ANSWERS = 4096

_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlx")
# Both are touched by that thread alone. A model is kept with the signature of its file and the bytes that it takes, an
# answer by model and pixels.
_models: OrderedDict[str, tuple[tuple[int, int], Any, int]] = OrderedDict()
_answers: OrderedDict[tuple[str, tuple[int, int], bytes], "_One"] = OrderedDict()


@dataclass(frozen=True)
class Card:
    """What a model says of itself.

    `num_experts` is None for a static network. `accuracy` is in [0, 1], measured on `measured_on`, or None. `crop` and
    `interpolation` are those of `fit_image`.
    """

    name: str
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


@dataclass(frozen=True)
class Routing:
    """One router: its name, the layers that it feeds, and its weights (N, E)."""

    router: str
    layers: tuple[str, ...]
    weights: np.ndarray


@dataclass(frozen=True)
class Answer:
    """What a model makes of N images.

    Attributes:
        seen: the images as the network took them, uint8 (N, size, size, channels).
        probabilities: (N, classes).
        routing: in order of execution; empty for a static network.
    """

    seen: np.ndarray
    probabilities: np.ndarray
    routing: tuple[Routing, ...]


@dataclass(frozen=True)
class Kernels:
    """A layer's experts (E, O, kh, kw, I), or (E, O, I) of a fully connected one, and their mixture, less the E."""

    experts: np.ndarray
    mixed: np.ndarray


@dataclass(frozen=True)
class _One:
    probabilities: np.ndarray
    routing: tuple[tuple[str, tuple[str, ...], np.ndarray], ...]


def models() -> list[str]:
    """Names of the weights that can be chosen: those that are shipped, then those of `published`."""
    return _call(_list)


def published() -> dict[str, Published]:
    """Weights that may have to be downloaded first (`condconv_mlx.app.downloads`), by name. Uses no network."""
    return _call(_published)


def describe(name: str) -> Card:
    """What a model says of itself. Raises CheckpointError if its file cannot be used, as all functions below do."""
    return _call(_describe, name)


def run(name: str, images: np.ndarray) -> Answer:
    """Predictions and routing for uint8 images (N, size, size, channels). Images seen before are not computed again."""
    return _call(_run, name, images)


def kernels(name: str, layer: str, routing_weights: np.ndarray) -> Kernels:
    """The experts of a layer, and their mixture by routing weights (E,)."""
    return _call(_kernels, name, layer, routing_weights)


def _call(work: Callable[..., T], *arguments: Any) -> T:
    # An error is raised here, in the caller; the thread goes on with the next job.
    return _thread.submit(_prepared, work, *arguments).result()


def _prepared(work: Callable[..., T], *arguments: Any) -> T:
    # Once it has run, each costs next to nothing. MLX must not be imported before them.
    from condconv_mlx import _backend
    from condconv_mlx.cpu import tune_process

    tune_process()
    _backend.check()
    return work(*arguments)


def _list() -> list[str]:
    from condconv_mlx.checkpoint import list_weights

    return [*list_weights(), *_published()]


def _published() -> dict[str, Published]:
    from condconv_mlx.checkpoint import list_weights
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
        if name not in list_weights()
    }


def _load(name: str) -> tuple[Any, tuple[int, int]]:
    from condconv_mlx.checkpoint import CheckpointError, named_arrays
    from condconv_mlx.convert import load_any

    try:
        status = _file(name).stat()
    except OSError as error:
        raise CheckpointError(f"The weights of {name} are no longer there.") from error
    signature = (status.st_mtime_ns, status.st_size)
    if name not in _models or _models[name][0] != signature:
        # First, so that there is room while it is loaded.
        _models.pop(name, None)
        model = load_any(name, progress=False)
        _models[name] = (signature, model, sum(array.nbytes for array in named_arrays(model).values()))
        while len(_models) > 1 and sum(size for *_, size in _models.values()) > KEPT_BYTES:
            _models.popitem(last=False)
    _models.move_to_end(name)
    return _models[name][1], signature


def _file(name: str) -> Path:
    """Where the weights of that name lie. FileNotFoundError for published ones that are not here."""
    from condconv_mlx.checkpoint import list_weights, weights_folder
    from condconv_mlx.convert.hub import HUB_MODELS, cached

    if name in list_weights() or name not in HUB_MODELS:
        return weights_folder() / f"{name}.safetensors"
    if found := cached(name):
        return found
    raise FileNotFoundError(name)


def _describe(name: str) -> Card:
    from condconv_mlx.checkpoint import CheckpointError

    model, _ = _load(name)
    info = model.info
    try:
        training = info.get("training", {})
        tested = training.get("test_accuracy")
        return Card(
            name=name,
            dataset=info["dataset"],
            labels=tuple(info["labels"]),
            size=int(info["input"]["size"]),
            channels=int(info["input"]["channels"]),
            num_experts=model.config.get("num_experts"),
            accuracy=training.get("held_out_accuracy") if tested is None else tested,
            measured_on="held-out images" if tested is None else "test images",
            crop=info["input"].get("crop"),
            interpolation=info["input"].get("interpolation", "lanczos"),
        )
    except KeyError as error:
        raise CheckpointError(
            f"The weights of {name} do not say which {error.args[0]} they were trained on."
        ) from error


def _run(name: str, images: np.ndarray) -> Answer:
    model, signature = _load(name)
    images = np.ascontiguousarray(images)
    keys = [(name, signature, hashlib.sha256(image).digest()) for image in images]
    answers = {key: _answers[key] for key in keys if key in _answers}
    missing = {key: image for key, image in zip(keys, images, strict=True) if key not in answers}
    todo = list(missing)
    size = max(1, min(BATCH, BATCH_PIXELS // (images.shape[1] * images.shape[2])))
    for start in range(0, len(todo), size):
        batch = todo[start : start + size]
        answers.update(zip(batch, _compute(model, np.stack([missing[key] for key in batch])), strict=True))
    for key in keys:
        _answers[key] = answers[key]
        _answers.move_to_end(key)
    while len(_answers) > KEPT_ANSWERS:
        _answers.popitem(last=False)
    rows = [answers[key] for key in keys]
    return Answer(
        seen=images,
        probabilities=np.stack([row.probabilities for row in rows]),
        routing=tuple(
            Routing(router, layers, np.stack([row.routing[i][2] for row in rows]))
            for i, (router, layers, _) in enumerate(rows[0].routing)
        ),
    )


def _compute(model: Any, images: np.ndarray) -> list[_One]:
    from condconv_mlx.data import normalise
    from condconv_mlx.explain import trace

    wanted = model.info["input"]
    traced = trace(model, normalise(images, wanted["mean"], wanted["std"]))
    probabilities = traced.probabilities
    return [
        _One(probabilities[n], tuple((r.name, tuple(r.layers), r.weights[n]) for r in traced.routers))
        for n in range(len(images))
    ]


def _kernels(name: str, layer: str, routing_weights: np.ndarray) -> Kernels:
    from condconv_mlx.explain import experts_of, mixed_kernel

    model, _ = _load(name)
    experts = experts_of(model, layer)
    return Kernels(experts, mixed_kernel(experts, routing_weights))
