"""Data sets, image decoding and augmentation.

What is named here knows NumPy and Pillow, not MLX, which `augmentation`, `policy` and `batches` compute in.
"""

from condconv_mlx.data.dataset import DataError, Dataset, few
from condconv_mlx.data.folder import load_folder
from condconv_mlx.data.images import Box, ImageError, default_crop, fit_image, looks_dark_on_light, open_image
from condconv_mlx.data.registry import list_datasets, load_dataset
from condconv_mlx.data.streaming import StreamedImages, subset
from condconv_mlx.data.transforms import normalise, statistics
from condconv_mlx.files import cache_dir

__all__ = [
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
    "normalise",
    "open_image",
    "statistics",
    "subset",
]
