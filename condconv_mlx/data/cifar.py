"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their official binary formats: 32×32 colour photographs."""

import gzip
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condconv_mlx.data.dataset import DataError, Dataset
from condconv_mlx.data.download import fetch
from condconv_mlx.files import cache_dir

URL = "https://www.cs.toronto.edu/~kriz/"
SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE


@dataclass(frozen=True)
class CifarFiles:
    """One of the two sets: its archive, the files in it, and what a record of them holds.

    A record is `label_bytes` bytes, the last of which is the class, then the red, green and blue planes.
    """

    name: str
    title: str
    archive: str
    md5: str
    size: int  # of the archive, in bytes
    folder: str
    train: dict[str, int]  # file name -> number of records
    test: dict[str, int]
    label_bytes: int
    labels: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return SIDE, SIDE, 3

    @property
    def count(self) -> int:
        """Of the training images."""
        return sum(self.train.values())

    def downloads(self, cache: Path) -> list[Path]:
        """The files that a download writes."""
        return [cache / self.name / self.archive]

    def place(self, cache: Path) -> Path | None:
        """Where the set lies: as downloaded, or unpacked by a browser, wholly or to the .tar in it. Else None."""
        names = (self.archive, self.archive.removesuffix(".gz"), self.folder)
        return next((cache / self.name / name for name in names if (cache / self.name / name).exists()), None)


CIFAR10 = CifarFiles(
    name="cifar10",
    title="CIFAR-10",
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    size=170_052_171,
    folder="cifar-10-batches-bin",
    train={f"data_batch_{number}.bin": 10_000 for number in range(1, 6)},
    test={"test_batch.bin": 10_000},
    label_bytes=1,
    labels=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
# A record begins with one of 20 superclasses, which we leave out, and then one of these.
CIFAR100 = CifarFiles(
    name="cifar100",
    title="CIFAR-100",
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    size=168_513_733,
    folder="cifar-100-binary",
    train={"train.bin": 50_000},
    test={"test.bin": 10_000},
    label_bytes=2,
    labels=(
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
        "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
        "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
        "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
        "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
        "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
        "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
        "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
        "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
        "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
    ),
)  # fmt: skip


def load_cifar10(cache: Path | None = None, progress: bool = True) -> Dataset:
    """50,000 training and 10,000 test images (N, 32, 32, 3) of 10 classes, from the cache or the network."""
    return _load(CIFAR10, cache, progress)


def load_cifar100(cache: Path | None = None, progress: bool = True) -> Dataset:
    """50,000 training and 10,000 test images (N, 32, 32, 3) of 100 fine classes, from the cache or the network."""
    return _load(CIFAR100, cache, progress)


def _load(files: CifarFiles, cache: Path | None, progress: bool) -> Dataset:
    cache = cache or cache_dir()
    place = files.place(cache)
    if place is None:
        base = os.environ.get(f"CONDCONV_MLX_{files.name.upper()}_URL") or URL
        fetch(base, {files.archive: files.md5}, cache / files.name, files.title, progress)
        place = cache / files.name / files.archive
    contents = _read_files(files, place)
    train_images, train_labels = _parse(files, files.train, contents, place)
    test_images, test_labels = _parse(files, files.test, contents, place)
    return Dataset(
        name=files.name,
        labels=list(files.labels),
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        source=f"{files.title} in {place}",
    )


def _read_files(files: CifarFiles, place: Path) -> dict[str, bytes]:
    """The files of records by name. Nothing is unpacked to disk, and no more is read than each may hold."""
    # One byte more than it should have is enough to know that a file is too long.
    sizes = {name: count * (files.label_bytes + PIXEL_BYTES) + 1 for name, count in (files.train | files.test).items()}
    contents: dict[str, bytes] = {}
    try:
        if place.is_dir():
            for name, size in sizes.items():
                with (place / name).open("rb") as file:
                    contents[name] = file.read(size)
            return contents
        with gzip.open(place) if place.suffix == ".gz" else place.open("rb") as stream:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    folder, _, name = member.name.removeprefix("./").rpartition("/")
                    wanted = folder == files.folder and name in sizes and member.isfile()
                    content = archive.extractfile(member) if wanted else None
                    if content is not None:
                        contents[name] = content.read(sizes[name])
            # gzip compares its checksum at the very end, where tarfile does not look.
            while stream.read(2**20):
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise _damaged(place, str(error)) from error
    if missing := sorted(set(sizes) - set(contents)):
        raise _damaged(place, f"no {', '.join(missing)}")
    return contents


def _parse(
    files: CifarFiles, counts: dict[str, int], contents: dict[str, bytes], place: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Files of records to images (N, 32, 32, 3) uint8 and labels (N,) int32."""
    record = files.label_bytes + PIXEL_BYTES
    for name, count in counts.items():
        if len(contents[name]) != count * record:
            raise _damaged(place, f"{name} of {len(contents[name])} bytes, wanted {count} × {record}")
    records = np.frombuffer(b"".join(contents[name] for name in counts), dtype=np.uint8).reshape(-1, record)
    labels = records[:, files.label_bytes - 1].astype(np.int32)
    if labels.max() >= len(files.labels):
        raise _damaged(place, f"class {labels.max()}, wanted 0 to {len(files.labels) - 1}")
    images = records[:, files.label_bytes :].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def _damaged(place: Path, reason: str) -> DataError:
    return DataError(f"{place} is damaged ({reason}): delete it and load the data set again")
