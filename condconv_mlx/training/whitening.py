"""A first layer that begins by decorrelating the pixels of a patch, which shortens training."""

import mlx.core as mx
import numpy as np

from condconv_mlx.static_layers import Conv2d

SMALLEST_VARIANCE = 5e-4  # added to the variances; below it, patches of photographs are noise


def whiten(stem: Conv2d, images: np.ndarray) -> None:
    """Set the kernels of a first convolution to whitening filters of the images' patches.

    The filters are the principal directions of the patches, each divided by its deviation, and their negatives, so that
    a ReLU loses nothing; from the largest variance on. Kernels beyond twice the number of pixels in a patch stay as
    they are. Changed in place. Source: Page, "How to train your ResNet", part 8; Jordan, arXiv 2404.00498.

    Args:
        stem: a convolution of the images, without groups.
        images: normalised, (N, H, W, Cin) float32.
    """
    out, height, width, channels = stem.weight.shape
    if images.ndim != 4 or images.shape[3] != channels:
        raise ValueError(f"images must be (N, H, W, {channels}), got shape {images.shape}")
    windows = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * channels)
    covariance = patches.T @ patches / len(patches)
    variances, directions = np.linalg.eigh(covariance.astype(np.float64))
    filters = (directions / np.sqrt(variances + SMALLEST_VARIANCE)).T[::-1]
    filters = filters[: out // 2].reshape(-1, height, width, channels)
    weight = np.array(stem.weight.astype(mx.float32))
    weight[: 2 * len(filters)] = np.concatenate([filters, -filters])
    stem.weight = mx.array(weight).astype(stem.weight.dtype)
