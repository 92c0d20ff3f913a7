"""A folder of pictures, or a zip of one, as a data set: train/<class>/* and test/<class>/*, or <class>/* alone."""

import glob
import hashlib
import itertools
import os
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condconv_mlx.data.archive import open_zip
from condconv_mlx.data.dataset import DataError, Dataset, few
from condconv_mlx.data.decoding import LARGEST, SIZES, check_all, common_size, decode_all
from condconv_mlx.data.pictures import SPLITS, Classes, Picture, Tree, classes_of, list_folder
from condconv_mlx.data.streaming import StreamedImages
from condconv_mlx.files import atomic_file, cache_dir

TEST_SHARE = 0.2
IN_MEMORY = 2**30  # bytes that all images of a folder may take if they are to be kept
# Part of a cache file's name: raise it when the same files come out as other pixels or another split.
CACHE_VERSION = 2

# For each class, where its pictures (CLASS/FILE) stand in the array of all.
Indices = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Listing:
    """What a folder holds, and how to split it. `pictures` are in the order of splits, classes and names."""

    path: Path
    classes: Classes
    labels: list[str]
    pictures: list[Picture]
    seed: int
    test_share: float


# Where the images of "train" and "test" stand among all pictures, and their labels.
Places = dict[str, tuple[list[int], np.ndarray]]


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

    Images that would take more than IN_MEMORY bytes are not kept, but decoded whenever they are taken, see `streaming`.
    The first time, each is decoded once to find out which can be read; the cache remembers it.

    Where there is no train/ and test/, `test_share` of each class is for testing, see `choose_test`. Pictures that
    cannot be read are left out, and named in `skipped`.

    Args:
        path: of the folder or the zip.
        cache: folder of the cache; images of up to 64 pixels are kept there, larger ones are decoded each time.
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
    classes = classes_of(_open(path), path)
    labels = sorted(next(iter(classes.values())))
    pictures = [picture for split in classes.values() for label in labels for picture in split[label]]
    size = size or common_size(pictures)
    listing = Listing(path, classes, labels, pictures, seed, test_share)
    if len(pictures) * size * size * 3 > IN_MEMORY:
        content = _streamed(listing, size, _cache_file(path, 0, "checked", pictures, cache), progress)
    else:
        content = _in_memory(listing, size, _cache_file(path, size, f"{seed} {test_share}", pictures, cache), progress)
    kind, name = ("folder", path.name) if path.is_dir() else ("zip", path.stem)
    return Dataset(name=name, labels=labels, source=f"{kind} {path}", **content)


def choose_test(names: Sequence[str], seed: int = 0, test_share: float = TEST_SHARE) -> set[str]:
    """Which of a class's pictures are for testing: `test_share` of them, rounded, but never none and never all.

    Those whose names, CLASS/FILE, have the lowest SHA-256 with the seed. So the choice depends neither on the order of
    the files nor on other classes, and one more picture moves at most one other across.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest())
    return set(order[: min(max(1, round(test_share * len(names))), len(names) - 1)])


def _open(path: Path) -> Tree:
    if path.is_dir():
        return list_folder(path)
    if path.is_file():
        return open_zip(path)
    raise DataError(f"there is no folder {path}: give a folder, or a zip of one, that holds one folder a class")


def _in_memory(listing: Listing, size: int, cached: Path, progress: bool) -> dict[str, Any]:
    """Images, labels and `skipped` of a Dataset, decoded once."""
    arrays = _read_cache(cached, [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")])
    if arrays is None or not _whole(arrays, len(listing.pictures)):
        images, reasons = decode_all(listing.pictures, size, listing.path.name, progress)
        arrays = {"skipped": _table(listing.pictures, reasons)}
        for split, (chosen, labels) in _places(listing, reasons).items():
            arrays |= {f"{split}_images": np.ascontiguousarray(images[chosen]), f"{split}_labels": labels}
        if size <= LARGEST:
            _write_cache(cached, arrays)
    return {**arrays, "skipped": dict(arrays["skipped"].tolist())}


def _streamed(listing: Listing, size: int, cached: Path, progress: bool) -> dict[str, Any]:
    """As `_in_memory`, but the images are decoded when they are taken."""
    pictures = listing.pictures
    stored = _read_cache(cached, ["channels"])
    if stored is not None:
        channels, skipped = int(stored["channels"]), dict(stored["skipped"].tolist())
        reasons = {index: skipped[picture.name] for index, picture in enumerate(pictures) if picture.name in skipped}
        places = _places(listing, reasons)
    else:
        channels, reasons = check_all(pictures, listing.path.name, progress)
        places = _places(listing, reasons)
        _write_cache(cached, {"channels": np.array(channels), "skipped": _table(pictures, reasons)})
    content: dict[str, Any] = {"skipped": dict(_table(pictures, reasons).tolist())}
    for split, (chosen, labels) in places.items():
        content[f"{split}_images"] = StreamedImages([pictures[index] for index in chosen], size, channels)
        content[f"{split}_labels"] = labels
    return content


def _places(listing: Listing, reasons: dict[int, str]) -> Places:
    """Where the images of both splits stand among all pictures, without those that could not be read."""
    found = _readable(listing.classes, listing.labels, reasons)
    _check_enough(listing.path, found, [listing.pictures[index].name for index in reasons])
    divided = _split(found["all"], listing.seed, listing.test_share) if "all" in found else found
    return {
        split: (
            [index for names in divided[split].values() for index in names.values()],
            np.repeat(
                np.arange(len(listing.labels), dtype=np.int32), [len(names) for names in divided[split].values()]
            ),
        )
        for split in SPLITS
    }


def _table(pictures: list[Picture], reasons: dict[int, str]) -> np.ndarray:
    """(K, 2): the names of pictures that could not be read, and why."""
    return np.array([(pictures[index].name, reason) for index, reason in reasons.items()], dtype=np.str_).reshape(-1, 2)


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


def _cache_file(path: Path, size: int, split: str, pictures: list[Picture], cache: Path | None) -> Path:
    """The cache file for this folder in its present state: it is named by file names, sizes and times."""
    digest = hashlib.sha256(f"{CACHE_VERSION}\n{split}\n".encode())
    for picture in pictures:
        digest.update(os.fsencode(f"{picture.name}\0{picture.stamp}\n"))
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return (cache or cache_dir()) / "folders" / f"{path.name}-{place}-{size}-{digest.hexdigest()[:16]}.npz"


def _read_cache(file: Path, names: list[str]) -> dict[str, np.ndarray] | None:
    """The cached arrays of these names and `skipped`, or None if there are none or they are damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in [*names, "skipped"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _whole(arrays: dict[str, np.ndarray], count: int) -> bool:
    """Whether cached arrays hold all of a folder's pictures."""
    whole = all(len(arrays[f"{split}_images"]) == len(arrays[f"{split}_labels"]) for split in SPLITS)
    return whole and len(arrays["train_labels"]) + len(arrays["test_labels"]) + len(arrays["skipped"]) == count


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
