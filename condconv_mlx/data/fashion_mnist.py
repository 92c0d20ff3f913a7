"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747): 28×28 grey images of garments in ten classes."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from condconv_mlx.data.dataset import DataError, Dataset
from condconv_mlx.data.download import fetch
from condconv_mlx.files import cache_dir

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# Debian's package dataset-fashion-mnist puts the files here, compressed anew, so the checksums below do not hold there.
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LABELS = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
COUNTS = {"train": 60_000, "t10k": 10_000}
SIDE = 28


def load_fashion_mnist(cache: Path | None = None, progress: bool = True) -> Dataset:
    """60,000 training and 10,000 test images (N, 28, 28, 1), from the cache, the system or the network."""
    folder = (cache or cache_dir()) / "fashion-mnist"
    missing = {name: md5 for name, md5 in MD5.items() if not _find(name, folder)}
    if missing:
        base = os.environ.get("CONDCONV_MLX_FASHION_MNIST_URL") or URL
        fetch(base, missing, folder, "Fashion-MNIST", progress)
    paths = {name: _find(name, folder) or folder / name for name in MD5}
    arrays = {}
    for split, part in (("train", "train"), ("test", "t10k")):
        count = COUNTS[part]
        images = read_idx(paths[f"{part}-images-idx3-ubyte.gz"], (count, SIDE, SIDE))
        labels = read_idx(paths[f"{part}-labels-idx1-ubyte.gz"], (count,))
        if labels.max() >= len(LABELS):
            raise DataError(f"{paths[f'{part}-labels-idx1-ubyte.gz']} holds the class {labels.max()}, wanted 0 to 9")
        arrays[f"{split}_images"] = images[..., None]
        arrays[f"{split}_labels"] = labels.astype(np.int32)
    source = f"Fashion-MNIST in {paths['train-images-idx3-ubyte.gz'].parent}"
    return Dataset(name="fashion_mnist", labels=list(LABELS), source=source, **arrays)


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


def _find(name: str, folder: Path) -> Path | None:
    """The file in the cache folder or the system's, or unpacked there, as a browser may leave it; else None."""
    places = [place / form for place in (folder, SYSTEM_FOLDER) for form in (name, name.removesuffix(".gz"))]
    return next((place for place in places if place.is_file()), None)
