"""Batches of images on the device, alike for a set that lives there and for one that is decoded as it is used."""

from collections.abc import Iterable, Iterator, Sequence

import mlx.core as mx
import numpy as np

from condconv_mlx.data.streaming import StreamedImages
from condconv_mlx.data.transforms import scale_and_offset


class Resident:
    """Images that live on the device as one array."""

    def __init__(self, images: np.ndarray) -> None:
        """images: uint8 (N, H, W, C)."""
        self._images = mx.array(images)
        # A lazy array could be evaluated on this thread only.
        mx.eval(self._images)

    def take(self, indices: np.ndarray) -> mx.array:
        """The images (M, H, W, C) uint8 for indices (M,)."""
        return self._images[mx.array(indices)]

    def prefetch(self, batches: Iterable[np.ndarray]) -> Iterator[mx.array]:
        """What `take` gives for each array of indices, in order."""
        return map(self.take, batches)


class Streamed:
    """Images that are decoded in threads, ahead of time, and sent to the device batch by batch."""

    def __init__(self, images: StreamedImages) -> None:
        self._images = images

    def take(self, indices: np.ndarray) -> mx.array:
        """The images (M, H, W, C) uint8 for indices (M,)."""
        return mx.array(self._images[indices])

    def prefetch(self, batches: Iterable[np.ndarray]) -> Iterator[mx.array]:
        """What `take` gives for each array of indices, in order. Indices are asked for some batches ahead.

        Closing the iterator, or letting go of it, ends the decoding.
        """
        for images in self._images.prefetch(batches):
            # On the thread that asks, to which the device's stream belongs.
            yield mx.array(images)


Source = Resident | Streamed


def source(images: np.ndarray | StreamedImages) -> Source:
    """Where a trainer takes its batches from: `train_images` or `test_images` of a data set."""
    return Streamed(images) if isinstance(images, StreamedImages) else Resident(images)


def normalised(images: mx.array, mean: Sequence[float], std: Sequence[float]) -> mx.array:
    """What `data.normalise` gives, on the device: images uint8 (N, H, W, C) -> float32 (N, H, W, C)."""
    scale, offset = scale_and_offset(mean, std, images.shape[-1])
    return images.astype(mx.float32) * mx.array(scale) - mx.array(offset)
