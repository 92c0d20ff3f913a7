"""What can be trained on: known data sets and what they take to download, folders, and zips that were uploaded."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from condconv_mlx.app import models
from condconv_mlx.data import FILES, DataError, cache_dir, split_options
from condconv_mlx.data.archive import open_zip
from condconv_mlx.data.pictures import classes_of, list_folder
from condconv_mlx.files import replacing
from condconv_mlx.runs.finding import Run

MEGABYTE = 10**6
# Of an uploaded zip. A larger one, or a folder, has a path.
MOST_UPLOAD = 256


def is_here(name: str) -> bool:
    """Whether a known data set is on this machine."""
    return FILES[name].place(cache_dir()) is not None


def downloaded(name: str) -> float:
    """How much of a known data set has come so far, from 0 to 1, by the files that a download writes."""
    files = FILES[name]
    size = sum(_size(path) or _size(Path(f"{path}.part")) for path in files.downloads(cache_dir()))
    return min(size / files.size, 1.0)


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


def place_of(run: Run) -> str:
    """The folder or zip that a run was trained on; of a known data set its name."""
    return split_options(str(run.settings.get("data", "")).removeprefix("folder:"))[0]


def unused_uploads(runs: Iterable[Run]) -> list[Path]:
    """Uploaded zips that none of these runs was trained on."""
    used = {place_of(run) for run in runs}
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
