"""Pictures that are decoded whenever they are wanted, for data sets that would not fit in memory."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from condconv_mlx.data.dataset import DataError
from condconv_mlx.data.decoding import decode
from condconv_mlx.data.images import ImageError
from condconv_mlx.data.pictures import Picture

# How far decoding runs ahead of what has been taken: so many batches, while they take no more than these bytes, but
# always one.
AHEAD = 4
AHEAD_BYTES = 256 * 2**20


class StreamedImages:
    """Images uint8 (N, H, W, C) that are read like an array, and decoded by several threads each time.

    `images[index]` takes what NumPy's first axis does, and gives an array. Raises DataError if a picture, which could
    be read when the data set was loaded, is gone or damaged since.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, pictures: Sequence[Picture], size: int, channels: int) -> None:
        self.shape = (len(pictures), size, size, channels)
        self._pictures = pictures
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decoding")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        chosen = np.arange(len(self))[index]
        (images,) = self.prefetch([chosen.ravel()])
        return images.reshape(*chosen.shape, *self.shape[1:])

    def prefetch(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The images (M, H, W, C) for each array of indices (M,), in order, decoded ahead of time."""
        waiting: deque[tuple[np.ndarray, list[Future[None]]]] = deque()
        held = 0
        try:
            for indices in batches:
                images = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
                decoded = [self._pool.submit(self._decode, int(n), images[m]) for m, n in enumerate(indices)]
                waiting.append((images, decoded))
                held += images.nbytes
                while len(waiting) > AHEAD or (held > AHEAD_BYTES and len(waiting) > 1):
                    held -= waiting[0][0].nbytes
                    yield _finished(waiting)
            while waiting:
                yield _finished(waiting)
        finally:
            for _, decoded in waiting:
                for future in decoded:
                    future.cancel()

    def _decode(self, index: int, image: np.ndarray) -> None:
        """Into `image` (H, W, C)."""
        picture = self._pictures[index]
        try:
            image[:] = decode(picture, self.shape[1])[..., : self.shape[3]]
        except ImageError as error:
            raise DataError(
                f"{error} It could be read before: the pictures must stay as they are while they are used"
            ) from error


def subset(images: np.ndarray | StreamedImages, indices: np.ndarray) -> np.ndarray | StreamedImages:
    """Some of the images, by their indices (M,), of the same kind: nothing is decoded for it."""
    if isinstance(images, np.ndarray):
        return images[indices]
    _, size, _, channels = images.shape
    return StreamedImages([images._pictures[index] for index in indices], size, channels)


def _finished(waiting: deque[tuple[np.ndarray, list[Future[None]]]]) -> np.ndarray:
    """Take the first batch once it is decoded."""
    images, decoded = waiting[0]
    for future in decoded:
        future.result()
    waiting.popleft()
    return images
