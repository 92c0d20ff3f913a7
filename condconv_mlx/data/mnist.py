"""MNIST and Fashion-MNIST: 28×28 grey images in ten classes, four idx files each.

MNIST (LeCun, Cortes, Burges) shows handwritten digits; Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747) shows
garments, in files of the same names and shapes.
"""

import gzip
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condconv_mlx.data.dataset import DataError, Dataset
from condconv_mlx.data.download import fetch
from condconv_mlx.files import cache_dir

SIDE = 28


@dataclass(frozen=True)
class IdxFiles:
    """One of the two sets: where its files come from, where they lie, and what they hold."""

    name: str
    title: str
    urls: tuple[str, ...]  # each holds all the files; tried in this order
    folder: str  # in the cache
    system_folder: Path | None  # where a package of the system puts them
    md5: dict[str, str]  # file name -> checksum of a download
    labels: tuple[str, ...]
    size: int  # of the four files together, in bytes
    train: int = 60_000
    test: int = 10_000

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return SIDE, SIDE, 1

    @property
    def count(self) -> int:
        """Of the training images."""
        return self.train

    def downloads(self, cache: Path) -> list[Path]:
        """The files that a download writes."""
        return [cache / self.folder / file for file in self.md5]

    def find(self, file: str, cache: Path) -> Path | None:
        """A file in the cache or the system's folder, or unpacked there, as a browser may leave it; else None."""
        folders = [cache / self.folder, *([self.system_folder] if self.system_folder else [])]
        places = [folder / form for folder in folders for form in (file, file.removesuffix(".gz"))]
        return next((place for place in places if place.is_file()), None)

    def place(self, cache: Path) -> Path | None:
        """The folder of the training images if all four files are here, else None."""
        found = [self.find(file, cache) for file in self.md5]
        return found[0].parent if found[0] and all(found) else None


MNIST = IdxFiles(
    name="mnist",
    title="MNIST",
    urls=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    folder="mnist",
    system_folder=None,
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    labels=tuple("0123456789"),
    size=11_594_722,
)
FASHION_MNIST = IdxFiles(
    name="fashion_mnist",
    title="Fashion-MNIST",
    urls=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    folder="fashion-mnist",
    # Debian's package dataset-fashion-mnist compresses the files anew, so the checksums below do not hold there.
    system_folder=Path("/usr/share/datasets/fashion-mnist"),
    md5={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    labels=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    size=30_878_645,
)  # fmt: skip


def load_mnist(cache: Path | None = None, progress: bool = True) -> Dataset:
    """60,000 training and 10,000 test images of digits (N, 28, 28, 1), from the cache or the network."""
    return _load(MNIST, cache, progress)


def load_fashion_mnist(cache: Path | None = None, progress: bool = True) -> Dataset:
    """60,000 training and 10,000 test images of garments (N, 28, 28, 1), from the cache, the system or the network."""
    return _load(FASHION_MNIST, cache, progress)


def _load(files: IdxFiles, cache: Path | None, progress: bool) -> Dataset:
    cache = cache or cache_dir()
    missing = {name: md5 for name, md5 in files.md5.items() if not files.find(name, cache)}
    if missing:
        chosen = os.environ.get(f"CONDCONV_MLX_{files.name.upper()}_URL")
        first, *others = [chosen] if chosen else files.urls
        fetch(first, missing, cache / files.folder, files.title, progress, others)
    paths = {name: files.find(name, cache) or cache / files.folder / name for name in files.md5}
    arrays: dict[str, Any] = {}
    for split, part, count in (("train", "train", files.train), ("test", "t10k", files.test)):
        images = read_idx(paths[f"{part}-images-idx3-ubyte.gz"], (count, SIDE, SIDE))
        labels = read_idx(paths[f"{part}-labels-idx1-ubyte.gz"], (count,))
        if labels.max() >= len(files.labels):
            raise DataError(f"{paths[f'{part}-labels-idx1-ubyte.gz']} holds the class {labels.max()}, wanted 0 to 9")
        arrays[f"{split}_images"] = images[..., None]
        arrays[f"{split}_labels"] = labels.astype(np.int32)
    source = f"{files.title} in {paths['train-images-idx3-ubyte.gz'].parent}"
    return Dataset(name=files.name, labels=list(files.labels), source=source, **arrays)


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an idx file of bytes, compressed or not, that must hold an array of `shape`; uint8. Raises DataError."""
    header_size = 4 + 4 * len(shape)
    size = int(np.prod(shape))
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(header_size)
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and load the data set again") from error
    # 0, 0, type of the elements (8: unsigned byte), number of dimensions; then each dimension, big-endian.
    wanted = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    if header != wanted or len(content) != size:
        raise DataError(
            f"{path} is no idx file of {' × '.join(map(str, shape))} bytes: delete it and load the data set again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape).copy()
