"""Data sets by name."""

import re
from pathlib import Path
from typing import Any

from condconv_mlx.data.cifar import CIFAR10, CIFAR100, CifarFiles, load_cifar10, load_cifar100
from condconv_mlx.data.dataset import DataError, Dataset
from condconv_mlx.data.folder import load_folder
from condconv_mlx.data.mnist import FASHION_MNIST, MNIST, IdxFiles, load_fashion_mnist, load_mnist

DATASETS = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "fashion_mnist": load_fashion_mnist,
    "mnist": load_mnist,
}
# What each consists of, and where that lies.
FILES: dict[str, CifarFiles | IdxFiles] = {files.name: files for files in (CIFAR10, CIFAR100, FASHION_MNIST, MNIST)}


def list_datasets() -> list[str]:
    """Names that `load_dataset` knows, beside folder:PATH."""
    return sorted(DATASETS)


def load_dataset(spec: str, cache_dir: Path | None = None, progress: bool = True, size: int | None = None) -> Dataset:
    """Load a data set by its name in `list_datasets`, or "folder:PATH", from `cache_dir` where it is there already.

    PATH is a folder or a zip, see `load_folder`. Its options may be part of the spec, "folder:PATH?size=96&seed=1", so
    that one string tells how to load the same images again: `size`, the side of the images in pixels; `seed` of the
    split into training and test images; `test`, the share of these. The argument `size` wins. `progress` shows a bar on
    standard error while files are fetched or decoded. Raises DataError.
    """
    kind, colon, path = spec.partition(":")
    if kind == "folder" and colon:
        path, options = split_options(path)
        if not path:
            raise DataError("folder: names no folder: write folder:PATH, where PATH is a folder of pictures or a zip")
        return load_folder(Path(path), cache_dir, progress, **options | ({} if size is None else {"size": size}))
    if spec not in DATASETS:
        raise DataError(f"unknown data set {spec!r}: choose {', '.join(list_datasets())} or folder:PATH")
    if size is not None:
        raise DataError(f"the images of {spec} have their own size: leave out the size, which is for folder:PATH")
    return DATASETS[spec](cache_dir, progress)


def split_options(path: str) -> tuple[str, dict[str, Any]]:
    """The path of "PATH?size=96&seed=1&test=0.25", and what `load_folder` takes for its options. Raises DataError."""
    path, *stated = re.split(r"[?&](?=(?:size|seed|test)=)", path)
    options: dict[str, Any] = {}
    for option in stated:
        name, _, value = option.partition("=")
        try:
            options["test_share" if name == "test" else name] = float(value) if name == "test" else int(value)
        except ValueError:
            raise DataError(f"{option} is no number: write folder:PATH?size=96&seed=1&test=0.2, say") from None
    return path, options
