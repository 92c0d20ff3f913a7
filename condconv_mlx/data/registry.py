"""Data sets by name."""

import re
from pathlib import Path

from condconv_mlx.data.cifar import load_cifar10, load_cifar100
from condconv_mlx.data.dataset import DataError, Dataset
from condconv_mlx.data.folder import load_folder
from condconv_mlx.data.mnist import load_fashion_mnist, load_mnist

DATASETS = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "fashion_mnist": load_fashion_mnist,
    "mnist": load_mnist,
}


def list_datasets() -> list[str]:
    """Names that `load_dataset` knows, beside folder:PATH."""
    return sorted(DATASETS)


def load_dataset(spec: str, cache_dir: Path | None = None, progress: bool = True, size: int | None = None) -> Dataset:
    """Load a data set by its name in `list_datasets`, or "folder:PATH", from `cache_dir` where it is there already.

    PATH is a folder or a zip, see `load_folder`. `size` is the side of its images in pixels; it may be part of the
    spec, "folder:PATH?size=96", so that one string tells how to load the same images again. `progress` shows a bar on
    standard error while files are fetched or decoded. Raises DataError.
    """
    kind, colon, path = spec.partition(":")
    if kind == "folder" and colon:
        if not path:
            raise DataError("folder: names no folder: write folder:PATH, where PATH is a folder of pictures or a zip")
        if stated := re.fullmatch(r"(.+)\?size=(\d+)", path):
            path, size = stated[1], size or int(stated[2])
        return load_folder(Path(path), cache_dir, progress, size)
    if spec not in DATASETS:
        raise DataError(f"unknown data set {spec!r}: choose {', '.join(list_datasets())} or folder:PATH")
    if size is not None:
        raise DataError(f"the images of {spec} have their own size: leave out the size, which is for folder:PATH")
    return DATASETS[spec](cache_dir, progress)
