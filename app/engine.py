"""Owns MLX: every call runs on one thread for the life of the process, and only NumPy comes back.

MLX's streams belong to a thread, and Streamlit runs each rerun of a page on a new one.
"""

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")
BATCH = 64
# What a network computes on the way grows with the pixels: 64 images of 64 × 64, 5 of 224 × 224.
BATCH_PIXELS = 2**18
# Of all models together. The largest of the published ones takes 160 MB.
KEPT_BYTES = 2**29
KEPT_ANSWERS = 4096
KEPT_RESULTS = 128

_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlx")
# All are touched by that thread alone. A model is kept with the signature of its file and the bytes that it takes, an
# answer by model and pixels, a result by model, function and arguments.
_models: OrderedDict[str, tuple[tuple[int, int], Any, int]] = OrderedDict()
_answers: OrderedDict[tuple[str, tuple[int, int], bytes], "_One"] = OrderedDict()
_results: OrderedDict[tuple[str, tuple[int, int], bytes], Any] = OrderedDict()
_END = object()


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


def run(name: str, images: np.ndarray) -> Answer:
    """Predictions and routing for uint8 images (N, size, size, channels). Images seen before are not computed again.

    `name` is that of a model or the path of its file, here and below. Raises CheckpointError if it cannot be used.
    """
    images = np.ascontiguousarray(images)
    # A batch at a time, between which the others have their turn.
    return joined(images, [_submit(_run, name, images[part]) for part in batches(images)])


def joined(images: np.ndarray, parts: Sequence[Answer]) -> Answer:
    """The answer for all images, from those for some of them, in their order."""
    return Answer(
        seen=images,
        probabilities=np.concatenate([part.probabilities for part in parts]),
        routing=tuple(
            Routing(same[0].router, same[0].layers, np.concatenate([routing.weights for routing in same]))
            for same in zip(*(part.routing for part in parts), strict=True)
        ),
    )


def kernels(name: str, layer: str, routing_weights: np.ndarray) -> Kernels:
    """The experts of a layer, and their mixture by routing weights (E,)."""
    return _submit(_kernels, name, layer, routing_weights)


def call(name: str, function: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function(model, *args, **kwargs)`, which must return nothing of MLX.

    The last KEPT_RESULTS results are remembered by the function's name and its arguments, which must be picklable, and
    shared: they are not to be written to.
    """
    return _submit(_result, name, function, None, args, kwargs)


def look(
    name: str, images: np.ndarray, function: Callable[Concatenate[Any, Any, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """`function(model, x, *args, **kwargs)`, x being uint8 images (N, size, size, channels) as the model takes them.

    As `call` otherwise. Others wait as long as it takes: hand over one of `batches` at a time, or use `steps`.
    """
    return _submit(_result, name, function, images, args, kwargs)


def steps(
    name: str,
    images: np.ndarray,
    function: Callable[Concatenate[Any, Any, P], Iterator[T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Iterator[T]:
    """What the generator `function(model, x, *args, **kwargs)` yields. Others have their turn between two steps."""
    yield from _each(_submit(_start, name, function, images, args, kwargs))


def turn(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function(*args, **kwargs)`, which must return nothing of MLX, where no model is wanted. Nothing is remembered.

    Others wait as long as it takes.
    """
    return _submit(partial(function, *args, **kwargs))


def turns(function: Callable[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
    """What the generator `function(*args, **kwargs)` yields. Others have their turn between two steps."""
    yield from _each(turn(function, *args, **kwargs))


def batches(images: np.ndarray) -> list[slice]:
    """Parts of images (N, size, size, …), each of which a model can take at once."""
    size = max(1, min(BATCH, BATCH_PIXELS // (images.shape[1] * images.shape[2])))
    return [slice(start, start + size) for start in range(0, len(images), size)]


def file_of(name: str) -> Path:
    """Where the weights of that name or path lie. FileNotFoundError for published ones that are not here."""
    from condconv_mlx.checkpoint import list_weights, weights_folder
    from condconv_mlx.convert.hub import HUB_MODELS, cached

    if name in list_weights():
        return weights_folder() / f"{name}.safetensors"
    if name not in HUB_MODELS:
        return Path(name)
    if found := cached(name):
        return found
    raise FileNotFoundError(name)


def _each(iterator: Iterator[T]) -> Iterator[T]:
    item: Any
    while (item := _submit(next, iterator, _END)) is not _END:
        yield item


def _submit(work: Callable[..., T], *arguments: Any) -> T:
    # An error is raised here, in the caller; the thread goes on with the next job.
    return _thread.submit(_prepared, work, *arguments).result()


def _prepared(work: Callable[..., T], *arguments: Any) -> T:
    # Once it has run, each costs next to nothing. MLX must not be imported before them.
    from condconv_mlx import _backend
    from condconv_mlx.cpu import tune_process

    tune_process()
    _backend.check()
    return work(*arguments)


def _load(name: str) -> tuple[Any, tuple[int, int]]:
    from condconv_mlx.checkpoint import CheckpointError, named_arrays
    from condconv_mlx.convert import load_any

    try:
        status = file_of(name).stat()
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


def _run(name: str, images: np.ndarray) -> Answer:
    model, signature = _load(name)
    keys = [(name, signature, hashlib.sha256(image).digest()) for image in images]
    answers = {key: _answers[key] for key in keys if key in _answers}
    missing = {key: image for key, image in zip(keys, images, strict=True) if key not in answers}
    if missing:
        answers.update(zip(missing, _compute(model, np.stack(list(missing.values()))), strict=True))
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


def _result(name: str, function: Callable[..., T], images: np.ndarray | None, args: tuple, kwargs: dict[str, Any]) -> T:
    model, signature = _load(name)
    asked = pickle.dumps((function.__module__, function.__qualname__, images, args, kwargs))
    key = (name, signature, hashlib.sha256(asked).digest())
    if key not in _results:
        x = () if images is None else (_normalised(model, images),)
        _results[key] = function(model, *x, *args, **kwargs)
    _results.move_to_end(key)
    while len(_results) > KEPT_RESULTS:
        _results.popitem(last=False)
    return _results[key]


def _start(
    name: str, function: Callable[..., Iterator[T]], images: np.ndarray, args: tuple, kwargs: dict[str, Any]
) -> Iterator[T]:
    model, _ = _load(name)
    return function(model, _normalised(model, images), *args, **kwargs)


def _normalised(model: Any, images: np.ndarray) -> np.ndarray:
    from condconv_mlx.data import normalise

    wanted = model.info["input"]
    return normalise(images, wanted["mean"], wanted["std"])


def _compute(model: Any, images: np.ndarray) -> list[_One]:
    from condconv_mlx.explain import trace

    traced = trace(model, _normalised(model, images))
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
