"""Data sets by name."""

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


def load_dataset(spec: str, cache_dir: Path | None = None, progress: bool = True) -> Dataset:
    """Load a data set by its name in `list_datasets`, or "folder:PATH", from `cache_dir` where it is there already.

    `progress` shows a bar on standard error while files are fetched or decoded. Raises DataError.
    """
    kind, colon, path = spec.partition(":")
    if kind == "folder" and colon:
        if not path:
            raise DataError("folder: names no folder: write folder:PATH, where PATH holds train/ and test/")
        return load_folder(Path(path), cache_dir, progress)
    if spec not in DATASETS:
        raise DataError(f"unknown data set {spec!r}: choose {', '.join(list_datasets())} or folder:PATH")
    return DATASETS[spec](cache_dir, progress)
