"""Data sets, image decoding and augmentation.

What is named here knows NumPy and Pillow, not MLX, which `augmentation`, `policy` and `batches` compute in.
"""

from condconv_mlx.data.dataset import DataError, Dataset, few, noise
from condconv_mlx.data.folder import load_folder
from condconv_mlx.data.images import Box, ImageError, default_crop, fit_image, looks_dark_on_light, open_image
from condconv_mlx.data.registry import FILES, list_datasets, load_dataset, split_options
from condconv_mlx.data.streaming import StreamedImages, subset
from condconv_mlx.data.transforms import normalise, statistics
from condconv_mlx.files import cache_dir

__all__ = [
    "FILES",
    "Box",
    "DataError",
    "Dataset",
    "ImageError",
    "StreamedImages",
    "cache_dir",
    "default_crop",
    "few",
    "fit_image",
    "list_datasets",
    "load_dataset",
    "load_folder",
    "looks_dark_on_light",
    "noise",
    "normalise",
    "open_image",
    "split_options",
    "statistics",
    "subset",
]
