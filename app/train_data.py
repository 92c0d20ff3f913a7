"""What can be trained on: known data sets and what they take to download, folders, and zips that were uploaded."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from condconv_mlx.app import models
from condconv_mlx.data import DataError, cache_dir
from condconv_mlx.data.archive import open_zip
from condconv_mlx.data.cifar import CIFAR10, CIFAR100
from condconv_mlx.data.mnist import FASHION_MNIST, MNIST
from condconv_mlx.data.pictures import classes_of, list_folder
from condconv_mlx.files import replacing
from condconv_mlx.runs.finding import Run

MEGABYTE = 10**6
# Of an uploaded zip. A larger one, or a folder, has a path.
MOST_UPLOAD = 256
# Bytes to download.
SIZES = {"cifar10": 170_052_171, "cifar100": 168_513_733, "mnist": 11_594_722, "fashion_mnist": 30_878_645}
_FILES = {files.name: files for files in (CIFAR10, CIFAR100, MNIST, FASHION_MNIST)}


def is_here(name: str) -> bool:
    """Whether a known data set is on this machine."""
    return _FILES[name].place(cache_dir()) is not None


def shape(name: str) -> tuple[int, int]:
    """The side in pixels and the channels of a known data set's images."""
    return (32, 3) if name in (CIFAR10.name, CIFAR100.name) else (28, 1)


def downloaded(name: str) -> float:
    """How much of a known data set has come so far, from 0 to 1, by the files that a download writes."""
    files = _FILES[name]
    folder = cache_dir() / (files.name if files in (CIFAR10, CIFAR100) else files.folder)
    names = [files.archive] if files in (CIFAR10, CIFAR100) else list(files.md5)
    size = sum(_size(folder / each) or _size(folder / f"{each}.part") for each in names)
    return min(size / SIZES[name], 1.0)


@st.cache_data(ttl=30, max_entries=32, show_spinner="Looking for pictures …")
def describe(path: str) -> str:
    """How many classes and pictures a folder or zip holds. Raises DataError with a sentence for the page."""
    place = absolute(path)
    if not place.exists():
        raise DataError(f"there is no {place}")
    classes = classes_of(list_folder(place) if place.is_dir() else open_zip(place), place)
    count = sum(len(pictures) for split in classes.values() for pictures in split.values())
    labels = next(iter(classes.values()))
    return f"{len(labels)} classes, {count:,} pictures"


def absolute(path: str) -> Path:
    """The place that a user means."""
    return Path(os.path.abspath(Path(path.strip().strip("'\"")).expanduser()))


def keep_upload(data: bytes, name: str) -> Path:
    """Keep a zip beside the runs, which need it to go on. Raises DataError with a sentence if it is refused."""
    stem = re.sub(r"[^\w.-]", "-", Path(name).stem)[:60].lstrip(".-") or "pictures"
    path = uploads() / hashlib.sha256(data).hexdigest()[:8] / f"{stem}.zip"
    if not path.is_file():
        with replacing(path) as temporary:
            temporary.write_bytes(data)
            try:
                classes_of(open_zip(temporary), temporary)
            except DataError as error:
                raise DataError(str(error).replace(str(temporary), name)) from error
    return path


def uploads() -> Path:
    """Where uploaded zips lie."""
    return models.run_folders()[-1] / "uploads"


def unused_uploads(runs: Iterable[Run]) -> list[Path]:
    """Uploaded zips that none of these runs was trained on."""
    used = {str(run.settings.get("data", "")).removeprefix("folder:").partition("?")[0] for run in runs}
    return [path for path in sorted(uploads().glob("*/*.zip")) if str(path) not in used]


def remove_uploads(paths: Iterable[Path]) -> None:
    """Delete uploaded zips, with the folders that they lie in."""
    for path in paths:
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
