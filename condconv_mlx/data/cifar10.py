"""CIFAR-10 (Krizhevsky, 2009) in its official binary format: 32×32 colour photographs in ten classes."""

import gzip
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np

from condconv_mlx.data.dataset import DataError, Dataset
from condconv_mlx.data.download import fetch
from condconv_mlx.files import cache_dir

URL = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE = "cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TRAIN_FILES = [f"data_batch_{number}.bin" for number in range(1, 6)]
TEST_FILES = ["test_batch.bin"]
RECORDS = 10_000
# One byte for the class, then the red, green and blue planes.
RECORD_BYTES = 1 + 3 * 32 * 32


def load_cifar10(cache: Path | None = None, progress: bool = True) -> Dataset:
    """50,000 training and 10,000 test images (N, 32, 32, 3), from the cache or the network."""
    folder = (cache or cache_dir()) / "cifar10"
    # A browser may have unpacked the archive, wholly or to the .tar in it.
    forms = [folder / name for name in (ARCHIVE, ARCHIVE.removesuffix(".gz"), FOLDER)]
    place = next((form for form in forms if form.exists()), None)
    if place is None:
        base = os.environ.get("CONDCONV_MLX_CIFAR10_URL") or URL
        fetch(base, {ARCHIVE: MD5}, folder, "CIFAR-10", progress)
        place = folder / ARCHIVE
    batches = _read_batches(place)
    train_images, train_labels = _parse([batches[name] for name in TRAIN_FILES], place)
    test_images, test_labels = _parse([batches[name] for name in TEST_FILES], place)
    return Dataset(
        name="cifar10",
        labels=list(LABELS),
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        source=f"CIFAR-10 in {place}",
    )


def _read_batches(place: Path) -> dict[str, bytes]:
    """The six batch files by name. Nothing is unpacked to disk, and no more is read than a batch may hold."""
    wanted = {f"{FOLDER}/{name}": name for name in TRAIN_FILES + TEST_FILES}
    batches: dict[str, bytes] = {}
    try:
        if place.is_dir():
            for name in wanted.values():
                with (place / name).open("rb") as file:
                    batches[name] = file.read(RECORDS * RECORD_BYTES + 1)
            return batches
        with gzip.open(place) if place.suffix == ".gz" else place.open("rb") as stream:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    name = wanted.get(member.name.removeprefix("./"), "")
                    content = archive.extractfile(member) if name and member.isfile() else None
                    if content is not None:
                        batches[name] = content.read(RECORDS * RECORD_BYTES + 1)
            # gzip compares its checksum at the very end, where tarfile does not look.
            while stream.read(2**20):
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise _damaged(place, str(error)) from error
    if missing := sorted(set(wanted.values()) - set(batches)):
        raise _damaged(place, f"no {', '.join(missing)}")
    return batches


def _parse(batches: list[bytes], place: Path) -> tuple[np.ndarray, np.ndarray]:
    """Batch files to images (N, 32, 32, 3) and labels (N,)."""
    for batch in batches:
        if len(batch) != RECORDS * RECORD_BYTES:
            raise _damaged(place, f"a batch of {len(batch)} bytes, wanted {RECORDS} × {RECORD_BYTES}")
    records = np.frombuffer(b"".join(batches), dtype=np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int32)
    if labels.max() >= len(LABELS):
        raise _damaged(place, f"class {labels.max()}, wanted 0 to {len(LABELS) - 1}")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def _damaged(place: Path, reason: str) -> DataError:
    return DataError(f"{place} is damaged ({reason}): delete it and load the data set again")
