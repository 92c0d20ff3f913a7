"""A folder of pictures, train/<class>/* and test/<class>/*, as a data set."""

import hashlib
import os
import warnings
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from condconv_mlx.data.dataset import DataError, Dataset
from condconv_mlx.data.images import ImageError, fit_image, open_image
from condconv_mlx.files import atomic_file, cache_dir

SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# Part of a cache file's name: raise it when the same files come out as other pixels.
CACHE_VERSION = 1
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_folder(path: Path, cache: Path | None = None, progress: bool = True) -> Dataset:
    """Decode the pictures under `path`/train/<class>/ and `path`/test/<class>/, or take them from the cache.

    Classes are the names of the folders, sorted. All images come out square and of one size: the most frequent size of
    the training pictures if that is square, but at least 28 and at most 64; else 32. Others are cropped to the centred
    square and shrunk. If every picture is grey, there is one channel, else three. Raises DataError.
    """
    path = Path(os.path.abspath(path.expanduser()))
    splits = {split: _list_split(path, split) for split in ("train", "test")}
    labels = _labels(path, splits)
    files = {split: [file for label in labels for file in splits[split][label]] for split in splits}
    cached = _cache_file(path, files, cache)
    arrays = _read_cache(cached, files)
    if arrays is None:
        arrays = _decode_all(path, files, progress)
        for split in splits:
            counts = [len(splits[split][label]) for label in labels]
            arrays[f"{split}_labels"] = np.repeat(np.arange(len(labels), dtype=np.int32), counts)
        _write_cache(cached, arrays)
    return Dataset(name=path.name, labels=labels, source=f"folder {path}", **arrays)


def _list_split(path: Path, split: str) -> dict[str, list[Path]]:
    """The pictures of train/ or test/ by class, sorted by name; hidden files and other suffixes are left out."""
    if not path.is_dir():
        raise DataError(f"there is no folder {path}: give the folder that holds train/ and test/")
    if not (path / split).is_dir():
        raise DataError(f"{path} has no folder {split}/: pictures belong in train/<class>/ and test/<class>/")
    classes = {entry.name: Path(entry) for entry in os.scandir(path / split) if _visible(entry) and entry.is_dir()}
    return {
        name: sorted(
            Path(entry)
            for entry in os.scandir(folder)
            if _visible(entry) and entry.is_file() and os.path.splitext(entry.name)[1].lower() in SUFFIXES
        )
        for name, folder in classes.items()
    }


def _visible(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".")


def _labels(path: Path, splits: dict[str, dict[str, list[Path]]]) -> list[str]:
    train, test = splits["train"], splits["test"]
    if not train and not test:
        raise DataError(f"{path} has no classes: pictures belong in train/<class>/ and test/<class>/")
    for here, there, have, lack in (("train", "test", train, test), ("test", "train", test, train)):
        if missing := sorted(set(have) - set(lack)):
            raise DataError(
                f"{path}: classes of {here}/ that {there}/ lacks: {', '.join(missing)}; add them or remove them"
            )
    for split, classes in splits.items():
        for name, files in classes.items():
            if not files:
                raise DataError(f"{path / split / name} holds no pictures: files end in {', '.join(sorted(SUFFIXES))}")
    return sorted(train)


def _decode_all(path: Path, files: dict[str, list[Path]], progress: bool) -> dict[str, np.ndarray]:
    size = _common_size(files["train"])
    every = files["train"] + files["test"]
    images = np.empty((len(every), size, size, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        try:
            images[index] = fit_image(open_image(every[index]), size, channels=3)
        except ImageError as error:
            raise DataError(f"{every[index]}: {error} Remove or replace the file.") from error

    bar = tqdm(total=len(every), desc=f"reading {path.name}", unit="image", disable=None if progress else True)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for _ in pool.map(decode, range(len(every))):
                bar.update()
        except BaseException:
            # Without this, the pool would first decode all that is left.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if _all_grey(images):
        images = np.ascontiguousarray(images[..., :1])
    return {"train_images": images[: len(files["train"])], "test_images": images[len(files["train"]) :]}


def _common_size(files: list[Path]) -> int:
    # A thousand, evenly spread, tell enough; opening reads the header only.
    sample = files[:: max(1, len(files) // 1000)]
    sizes: Counter[tuple[int, int]] = Counter()
    for file in sample:
        sizes[_header_size(file)] += 1
    (width, height), _ = sizes.most_common(1)[0]
    return min(max(width, 28), 64) if width == height else 32


def _header_size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            return image.size
    except Exception:
        return 0, 1


def _all_grey(images: np.ndarray) -> bool:
    chunks = (images[start : start + 1024] for start in range(0, len(images), 1024))
    return all((part[..., :1] == part[..., 1:]).all() for part in chunks)


def _cache_file(path: Path, files: dict[str, list[Path]], cache: Path | None) -> Path:
    """The cache file for this folder in its present state: it is named by file names, sizes and times."""
    digest = hashlib.sha256(f"{CACHE_VERSION}\n".encode())
    for file in files["train"] + files["test"]:
        status = file.stat()
        digest.update(f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    place = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return (cache or cache_dir()) / "folders" / f"{path.name}-{place}-{digest.hexdigest()[:16]}.npz"


def _read_cache(file: Path, files: dict[str, list[Path]]) -> dict[str, np.ndarray] | None:
    """The cached arrays, or None if there are none or they are damaged: then they are made again."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    whole = all(len(arrays[f"{split}_{kind}"]) == len(files[split]) for split in files for kind in ("images", "labels"))
    return arrays if whole else None


def _write_cache(file: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        with atomic_file(file) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
        # Earlier states of the same folder will not come back.
        prefix = file.stem.rpartition("-")[0]
        for other in file.parent.glob(f"{prefix}-*.npz"):
            if other != file:
                other.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"the decoded pictures could not be kept in {file.parent} ({error.strerror})", stacklevel=2)
