"""What every data set looks like once it is loaded."""

from dataclasses import dataclass

import numpy as np


class DataError(ValueError):
    """A data set that is missing, damaged or cannot be fetched. The message says what to do."""


@dataclass(eq=False)
class Dataset:
    """Images with their classes, split in two.

    Images are uint8 (N, H, W, C) with C 1 or 3; labels are int32 (N,), indices into `labels`.
    """

    name: str
    labels: list[str]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
