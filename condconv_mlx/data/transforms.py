"""Arithmetic on images: scaling and statistics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from condconv_mlx.data.streaming import StreamedImages

CHUNK = 2**23  # bytes of images that are counted at once
SAMPLED = 2000  # images whose statistics stand for those of a larger set that is not in memory


def normalise(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Scale images to [0, 1], take away the mean and divide by the deviation of each channel.

    images uint8 (N, H, W, C), mean and std of length C on the scale [0, 1] -> float32 (N, H, W, C).
    """
    _check_images(images)
    scale, offset = scale_and_offset(mean, std, images.shape[-1])
    scaled = np.multiply(images, scale, dtype=np.float32)
    scaled -= offset
    return scaled


def scale_and_offset(mean: Sequence[float], std: Sequence[float], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """What `normalise` multiplies with and then subtracts, each (C,) float32."""
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"mean and std have {len(mean)} and {len(std)} values, but the images have {channels} channels: "
            "give one value a channel"
        )
    deviation = np.asarray(std, dtype=np.float64)
    if not (deviation > 0).all():
        raise ValueError(f"std must be positive in every channel, got {list(std)}")
    scale = (1 / (255 * deviation)).astype(np.float32)
    offset = (np.asarray(mean, dtype=np.float64) / deviation).astype(np.float32)
    return scale, offset


def statistics(
    images: "np.ndarray | StreamedImages", indices: np.ndarray | None = None
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of images scaled to [0, 1].

    images uint8 (N, H, W, C), of those the ones at `indices`, all by default -> two lists of length C. Of images that
    are decoded anew each time, 2000 evenly spread indices have to do. A channel that never varies gets the deviation
    1/255, the smallest step of a pixel, so that `normalise` can divide by it.
    """
    _check_images(images)
    chosen = np.arange(len(images)) if indices is None else indices
    if not isinstance(images, np.ndarray):
        chosen = chosen[:: -(-len(chosen) // SAMPLED) or 1]
    _, height, width, channels = images.shape
    if len(chosen) * height * width == 0:
        raise ValueError(f"statistics of no pixels: images have the shape {(len(chosen), *images.shape[1:])}")
    counts = np.zeros((channels, 256), dtype=np.int64)
    # By chunks, since bincount widens its input eightfold.
    step = max(1, CHUNK // (height * width * channels))
    for start in range(0, len(chosen), step):
        chunk = images[chosen[start : start + step]]
        for channel, histogram in enumerate(counts):
            histogram += np.bincount(chunk[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    return mean.tolist(), np.maximum(np.sqrt(variance), 1 / 255).tolist()


def _check_images(images: "np.ndarray | StreamedImages") -> None:
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 of shape (N, H, W, C), got {images.dtype} of shape {images.shape}")
