"""What every data set looks like once it is loaded."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from condconv_mlx.data.streaming import StreamedImages


class DataError(ValueError):
    """A data set that is missing, damaged or cannot be fetched. The message says what to do."""


@dataclass(eq=False)
class Dataset:
    """Images with their classes, split in two.

    Images are uint8 (N, H, W, C) with C 1 or 3, in memory, or decoded when they are taken if they are many (see
    `load_folder`). Labels are int32 (N,), indices into `labels`. `skipped` tells of each picture that could not be read
    and was left out, by its path, why.
    """

    name: str
    labels: list[str]
    train_images: "np.ndarray | StreamedImages"
    train_labels: np.ndarray
    test_images: "np.ndarray | StreamedImages"
    test_labels: np.ndarray
    source: str
    skipped: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many training and test images each class has."""
        train, test = (np.bincount(of, minlength=len(self.labels)) for of in (self.train_labels, self.test_labels))
        return {label: (int(a), int(b)) for label, a, b in zip(self.labels, train, test, strict=True)}

    def digest(self) -> str:
        """Another one when the classes or the training images' classes, by place, are others."""
        given = hashlib.sha256(json.dumps(self.labels).encode())
        given.update(self.train_labels.astype("<i4").tobytes())
        return given.hexdigest()[:16]

    def summary(self) -> str:
        """One line: the classes with the number of their images, both splits, the size of an image, what was left out.

        For example: "birds: 2 classes (robin 40, wren 25), 52 training and 13 test images of 64×64 pixels in colour".
        """
        classes = [f"{label} {sum(both)}" for label, both in self.counts().items()]
        height, width, channels = self.train_images.shape[1:]
        left_out = f", {len(self.skipped)} unreadable left out" if self.skipped else ""
        return (
            f"{self.name}: {len(classes)} classes ({few(classes)}), {len(self.train_images)} training and "
            f"{len(self.test_images)} test images of {width}×{height} pixels in {'grey' if channels == 1 else 'colour'}"
            f"{left_out}"
        )


def noise(name: str, labels: Sequence[str], count: int, shape: Sequence[int]) -> Dataset:
    """As many random training images of a shape (H, W, C), in these classes, and no test images.

    For measurements: to a step of training all images are the same, and these need no download.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    classes = rng.integers(0, len(labels), count, dtype=np.int32)
    return Dataset(name, list(labels), images, classes, images[:0], classes[:0], "random numbers")


def few(names: Sequence[str], limit: int = 8) -> str:
    """The first names and how many more there are, so that a message about a thousand classes stays a line."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
