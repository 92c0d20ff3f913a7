"""How active the experts of a model usually are, kept in a small file beside its weights.

NAME.routing.json, which `python -m condconv_mlx.routing_reference` writes, holds mean and deviation of each expert's
routing weight. It names the weights by their SHA-256, and counts for no others.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condconv_mlx.files import replacing


@dataclass(frozen=True)
class Reference:
    """Routing weights over many images.

    Attributes:
        images: how many.
        of: what they are, in a few words.
        mean, deviation: of each expert's weight, (E,) by the name of the router.
    """

    images: int
    of: str
    mean: Mapping[str, np.ndarray]
    deviation: Mapping[str, np.ndarray]


def reference(weights: Mapping[str, np.ndarray], of: str) -> Reference:
    """From routing weights (N, E) by the name of the router.

    Raises:
        ValueError: if there are none, or not the same number of images for each router.
    """
    counts = {len(table) for table in weights.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"[reference] each router needs weights of the same images, and some: got {sorted(counts)}.")
    exact = {name: table.astype(np.float64) for name, table in weights.items()}
    return Reference(
        images=counts.pop(),
        of=of,
        mean={name: table.mean(axis=0) for name, table in exact.items()},
        deviation={name: table.std(axis=0) for name, table in exact.items()},
    )


def reference_path(weights: Path) -> Path:
    """Beside a file of weights, the file of its reference."""
    return weights.with_suffix(".routing.json")


def save_reference(weights: Path, of: Reference) -> Path:
    """Write the reference of a file of weights beside it, and tell where."""
    routers = {
        name: {"mean": np.round(of.mean[name], 5).tolist(), "deviation": np.round(of.deviation[name], 5).tolist()}
        for name in of.mean
    }
    content = {"weights": _digest(weights), "images": of.images, "of": of.of, "routers": routers}
    with replacing(reference_path(weights)) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return reference_path(weights)


def load_reference(weights: Path) -> Reference | None:
    """The reference beside a file of weights; None if there is none, or it is damaged or of other weights."""
    try:
        content = json.loads(reference_path(weights).read_text(encoding="utf-8"))
        if content["weights"] != _digest(weights):
            return None
        routers = content["routers"].items()
        return Reference(
            images=int(content["images"]),
            of=str(content["of"]),
            mean={name: np.array(numbers["mean"], np.float64) for name, numbers in routers},
            deviation={name: np.array(numbers["deviation"], np.float64) for name, numbers in routers},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
