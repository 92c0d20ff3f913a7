"""A folder of pictures, or a zip of one, as a data set: train/<class>/* and test/<class>/*, or <class>/* alone."""

import glob
import hashlib
import itertools
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from condconv_mlx.data.archive import open_zip
from condconv_mlx.data.dataset import DataError, Dataset, few
from condconv_mlx.data.decoding import LARGEST, SIZES, common_size, decode_all
from condconv_mlx.data.pictures import SPLITS, Classes, Picture, Tree, classes_of, list_folder
from condconv_mlx.files import atomic_file, cache_dir

TEST_SHARE = 0.2
# Part of a cache file's name: raise it when the same files come out as other pixels or another split.
CACHE_VERSION = 2

# For each class, where its pictures (CLASS/FILE) stand in the array of all.
Indices = dict[str, dict[str, int]]


def load_folder(
    path: Path,
    cache: Path | None = None,
    progress: bool = True,
    size: int | None = None,
    seed: int = 0,
    test_share: float = TEST_SHARE,
) -> Dataset:
    """Decode the pictures of a folder or a zip. `pictures` tells which files count, and which layouts there are.

    Classes are the names of the folders, sorted. All images come out square, `size` pixels wide; by default, the most
    frequent size of the pictures if that is square, but at least 28 and at most 64; else 32. Others are cropped to the
    centred square and shrunk. If every picture is grey, there is one channel, else three.

    Where there is no train/ and test/, `test_share` of each class is for testing, see `choose_test`. Pictures that
    cannot be read are left out, and named in `skipped`.

    Args:
        path: of the folder or the zip.
        cache: folder of the cache; images of up to 64 pixels are kept there, larger ones in memory only.
        progress: show a bar on standard error when it takes long.
        size: side of the images in pixels, from 8 to 1024.
        seed: of the split.
        test_share: the part of each class to test on, above 0 and below 1.

    Raises:
        DataError: if there is nothing there to learn from, or the zip is refused (see `archive`).
    """
    if size is not None and size not in SIZES:
        raise DataError(f"the size of images must be from {SIZES[0]} to {SIZES[-1]} pixels, got {size}")
    if not 0 < test_share < 1:
        raise DataError(f"the share of test images must be above 0 and below 1, got {test_share}")
    path = Path(os.path.abspath(path.expanduser()))
    with _open(path) as tree:
        classes = classes_of(tree, path)
        labels = sorted(next(iter(classes.values())))
        pictures = [picture for split in classes.values() for label in labels for picture in split[label]]
        size = size or common_size(pictures)
        cached = _cache_file(path, size, f"{seed} {test_share}", pictures, cache)
        arrays = _read_cache(cached, len(pictures))
        if arrays is None:
            images, reasons = decode_all(pictures, size, path.name, progress)
            found = _readable(classes, labels, reasons)
            skipped = {pictures[index].name: reason for index, reason in reasons.items()}
            _check_enough(path, found, list(skipped))
            arrays = _arrays(_split(found["all"], seed, test_share) if "all" in found else found, images)
            arrays["skipped"] = np.array(list(skipped.items()), dtype=np.str_).reshape(-1, 2)
            if size <= LARGEST:
                _write_cache(cached, arrays)
    kind, name = ("folder", path.name) if path.is_dir() else ("zip", path.stem)
    return Dataset(
        name=name,
        labels=labels,
        train_images=arrays["train_images"],
        train_labels=arrays["train_labels"],
        test_images=arrays["test_images"],
        test_labels=arrays["test_labels"],
        source=f"{kind} {path}",
        skipped=dict(arrays["skipped"].tolist()),
    )


def choose_test(names: Sequence[str], seed: int = 0, test_share: float = TEST_SHARE) -> set[str]:
    """Which of a class's pictures are for testing: `test_share` of them, rounded, but never none and never all.

    Those whose names, CLASS/FILE, have the lowest SHA-256 with the seed. So the choice depends neither on the order of
    the files nor on other classes, and one more picture moves at most one other across.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest())
    return set(order[: min(max(1, round(test_share * len(names))), len(names) - 1)])


@contextmanager
def _open(path: Path) -> Iterator[Tree]:
    if path.is_dir():
        yield list_folder(path)
    elif path.is_file():
        with open_zip(path) as tree:
            yield tree
    else:
        raise DataError(f"there is no folder {path}: give a folder, or a zip of one, that holds one folder a class")


def _readable(classes: Classes, labels: list[str], reasons: dict[int, str]) -> dict[str, Indices]:
    """Where the pictures that could be read stand among all, which are in the order of splits, classes and names."""
    index = itertools.count()
    found: dict[str, Indices] = {}
    for split, pictures_of in classes.items():
        numbered = {
            label: [(f"{label}/{picture.file}", next(index)) for picture in pictures_of[label]] for label in labels
        }
        found[split] = {
            label: {name: place for name, place in pictures if place not in reasons}
            for label, pictures in numbered.items()
        }
    return found


def _check_enough(path: Path, found: dict[str, Indices], skipped: list[str]) -> None:
    least, wanted = (2, "two, one to train on and one to test on") if "all" in found else (1, "one")
    lacking = [
        f"{label if split == 'all' else f'{split}/{label}'} ({len(names)})"
        for split, of_class in found.items()
        for label, names in of_class.items()
        if len(names) < least
    ]
    if lacking:
        because = f"; unreadable: {few(skipped, 3)}" if skipped else ""
        raise DataError(f"{path}: too few pictures in {few(lacking)}, each wants at least {wanted}{because}")


def _split(found: Indices, seed: int, test_share: float) -> dict[str, Indices]:
    test = {label: choose_test(list(names), seed, test_share) for label, names in found.items()}
    return {
        split: {
            label: {name: index for name, index in names.items() if (name in test[label]) == (split == "test")}
            for label, names in found.items()
        }
        for split in SPLITS
    }


def _arrays(found: dict[str, Indices], images: np.ndarray) -> dict[str, np.ndarray]:
    """The images and labels of both splits, as Dataset has them."""
    arrays = {}
    for split in SPLITS:
        chosen = [index for names in found[split].values() for index in names.values()]
        counts = [len(names) for names in found[split].values()]
        arrays[f"{split}_images"] = np.ascontiguousarray(images[chosen])
        arrays[f"{split}_labels"] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return arrays


def _cache_file(path: Path, size: int, split: str, pictures: list[Picture], cache: Path | None) -> Path:
    """The cache file for this folder in its present state: it is named by file names, sizes and times."""
    digest = hashlib.sha256(f"{CACHE_VERSION}\n{split}\n".encode())
    for picture in pictures:
        digest.update(os.fsencode(f"{picture.name}\0{picture.stamp}\n"))
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return (cache or cache_dir()) / "folders" / f"{path.name}-{place}-{size}-{digest.hexdigest()[:16]}.npz"


def _read_cache(file: Path, count: int) -> dict[str, np.ndarray] | None:
    """The cached arrays, or None if there are none or they are damaged: then they are made again."""
    names = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in [*names, "skipped"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    whole = all(len(arrays[f"{split}_images"]) == len(arrays[f"{split}_labels"]) for split in SPLITS)
    held = len(arrays["train_labels"]) + len(arrays["test_labels"]) + len(arrays["skipped"])
    return arrays if whole and held == count else None


def _write_cache(file: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        with atomic_file(file) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
        # Earlier states of the same folder will not come back.
        prefix = file.stem.rpartition("-")[0]
        for other in file.parent.glob(f"{glob.escape(prefix)}-*.npz"):
            if other != file:
                other.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"the decoded pictures could not be kept in {file.parent} ({error.strerror})", stacklevel=2)
