"""What the user brought, kept on this machine, so that a reload, a link and another tab find it again.

images/ID.png       a picture, named by the SHA-256 of the file that was brought
trays/ID.json       which pictures lie in a tray, in their order; named by its content, and never changed
models/NAME-ID.safetensors    a file of weights

Everything lies under `cache_dir()/app`. Files are named by what they hold, so that tabs share them and never mix.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from condconv_mlx.data import cache_dir, open_image
from condconv_mlx.files import atomic_file

# Much more than a network takes, and little enough to keep many.
KEPT_SIDE = 1024
# Beyond this, what was not used for longest goes.
MOST_BYTES = 2 * 10**9
DIGITS = 16


@dataclass(frozen=True)
class Entry:
    """A picture of a tray. `truth` is its class where a data set says so."""

    id: str
    title: str
    truth: str | None = None


@dataclass(frozen=True)
class Tray:
    """The user's pictures in their order, and whether the samples come after them."""

    entries: tuple[Entry, ...] = ()
    samples: bool = True


def add_picture(data: bytes, name: str) -> str:
    """Keep a picture, and tell its id. Raises ImageError with a sentence for the page."""
    id = _digest(data)
    path = picture_path(id)
    if path.is_file():
        os.utime(path)
        return id
    image = open_image(data, name)
    image.thumbnail((KEPT_SIDE, KEPT_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    # Little compression: a photograph gains nothing from more, which takes ten times as long.
    image.save(file, "PNG", compress_level=1)
    _write(path, file.getvalue())
    return id


def picture_path(id: str) -> Path:
    """Where the picture of that id lies, if it is here."""
    return _folder() / "images" / f"{id}.png"


def add_model(data: bytes, name: str) -> Path:
    """Keep a file of weights, and tell where."""
    stem = re.sub(r"[^\w.-]", "-", Path(name).stem)[:60]
    path = _folder() / "models" / f"{stem}-{_digest(data)}.safetensors"
    if not path.is_file():
        _write(path, data)
    return path


def models() -> list[Path]:
    """The files of weights that were brought, by name."""
    return sorted((_folder() / "models").glob("*.safetensors"))


def save_tray(tray: Tray) -> str:
    """Keep a tray, and tell its id: nothing for the one that everybody starts with."""
    if tray == Tray():
        return ""
    text = json.dumps(asdict(tray), ensure_ascii=False).encode()
    id = _digest(text)
    path = _tray_path(id)
    if not path.is_file():
        _write(path, text)
    return id


def load_tray(id: str) -> Tray | None:
    """The tray of that id, with those of its pictures that are still here; None if it is not here itself."""
    if not id:
        return Tray()
    if not re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", id):
        return None
    try:
        content = json.loads(_tray_path(id).read_text(encoding="utf-8"))
        entries = tuple(Entry(**entry) for entry in content["entries"])
        samples = bool(content["samples"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Tray(tuple(entry for entry in entries if picture_path(entry.id).is_file()), samples)


def size() -> tuple[int, int]:
    """How many files are kept, and their bytes."""
    sizes = [status.st_size for _, status in _files(_folder())]
    return len(sizes), sum(sizes)


def trim(most: int = MOST_BYTES) -> None:
    """Remove what was not used for longest, until no more than that many bytes are kept."""
    files = sorted(_files(_folder()), key=lambda file: file[1].st_mtime_ns)
    total = sum(status.st_size for _, status in files)
    for path, status in files:
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= status.st_size


def clear() -> None:
    """Put all of it away; `restore` brings it back until the next time."""
    shutil.rmtree(_cleared(), ignore_errors=True)
    if _folder().is_dir():
        os.replace(_folder(), _cleared())


def restore() -> None:
    """Bring back what was cleared last."""
    for path, _ in _files(_cleared()):
        place = _folder() / path.relative_to(_cleared())
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
    shutil.rmtree(_cleared(), ignore_errors=True)


def forget() -> None:
    """Remove for good what was cleared last."""
    shutil.rmtree(_cleared(), ignore_errors=True)


def _folder() -> Path:
    return cache_dir() / "app"


def _cleared() -> Path:
    return cache_dir() / "app-cleared"


def _tray_path(id: str) -> Path:
    return _folder() / "trays" / f"{id}.json"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as file:
        file.write(data)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.rglob("*"):
        # Another tab may clear meanwhile.
        try:
            status = path.stat()
        except OSError:
            continue
        if path.is_file() and not path.name.startswith("."):
            yield path, status
