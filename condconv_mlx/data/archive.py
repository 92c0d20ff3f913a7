"""A zip of pictures, read where it lies: nothing is unpacked to disk, and suspicious archives are refused whole.

The limits below hold for the sizes that the archive states; no entry is read further than a picture may be large, so
one that states less than it holds gains nothing.
"""

import io
import re
import stat
import weakref
import zipfile
from functools import partial
from pathlib import Path

from condconv_mlx.data.dataset import DataError
from condconv_mlx.data.pictures import Picture, Tree, is_picture, joined, visible

MAX_ENTRIES = 200_000
MAX_DIRECTORY = 128 * 2**20  # bytes of the list of entries, which zipfile takes in before they can be counted
MAX_UNPACKED = 64 * 2**30  # bytes
# Pictures hardly shrink when zipped. What unpacks to less than this many bytes harms no one, however well it shrank.
MAX_RATIO = 100
HARMLESS = 64 * 2**20
ENCRYPTED = 0x1


def open_zip(path: Path) -> Tree:
    """The pictures in a zip, which can be opened by several threads. The file is closed when the last one is let go.

    Raises DataError for what is no zip, is encrypted, holds links or names that lead out of it, or is a bomb.
    """
    file = _open_bounded(path)
    try:
        archive = _archive(path, file)
        entries = archive.infolist()
        _check_size(path, entries)
        for entry in entries:
            _check_entry(path, entry)
    except BaseException:
        file.close()
        raise
    weakref.finalize(archive, file.close)
    return _tree(archive, entries)


class _Bounded(io.BufferedReader):
    """A file that gives only so much at once: zipfile reads the list of entries, of any size, in one piece."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise DataError(
                f"{self.name} is refused: its list of entries takes {size / 2**20:.0f} MiB, and the limit is "
                f"{MAX_DIRECTORY / 2**20:g} MiB"
            )
        return super().read(size)


def _open_bounded(path: Path) -> _Bounded:
    try:
        return _Bounded(io.FileIO(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _archive(path: Path, file: _Bounded) -> zipfile.ZipFile:
    # Of hostile bytes, zipfile makes nearly any error (BadZipFile, struct.error, NotImplementedError, ValueError …).
    try:
        return zipfile.ZipFile(file)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} is no zip archive, or a damaged one: give a folder or a zip of one") from error


def _check_size(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"{path} is refused: {len(entries)} entries, and the limit is {MAX_ENTRIES}")
    unpacked, packed = sum(entry.file_size for entry in entries), path.stat().st_size
    if unpacked > MAX_UNPACKED:
        raise DataError(
            f"{path} is refused: it would unpack to {unpacked / 2**30:.1f} GiB, and the limit is "
            f"{MAX_UNPACKED / 2**30:g} GiB"
        )
    # By the file itself, since entries may claim the same bytes.
    if unpacked > max(HARMLESS, MAX_RATIO * packed):
        raise DataError(
            f"{path} is refused: it would unpack to {unpacked / packed:.0f} times its size, and the limit is "
            f"{MAX_RATIO} times"
        )


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    if "\0" in name or "\\" in name:
        problem = "has a backslash or a zero byte in its name"
    elif name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        problem = "leads out of the archive"
    elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = "is a link or a device, and only files and folders are taken"
    elif entry.flag_bits & ENCRYPTED:
        problem = "is encrypted: make the zip without a password"
    else:
        return
    raise DataError(f"{path} is refused: its entry {name!r} {problem}")


def _tree(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> Tree:
    tree: Tree = {"": []}
    for entry in entries:
        parts = [part for part in entry.filename.split("/") if part not in ("", ".")]
        if not all(map(visible, parts)):
            continue
        folders = parts if entry.is_dir() else parts[:-1]
        for depth in range(len(folders)):
            tree.setdefault(joined(folders[: depth + 1]), [])
        if not entry.is_dir() and is_picture(entry.filename):
            picture = Picture(joined(parts), f"{entry.file_size} {entry.CRC}", partial(archive.open, entry))
            tree[joined(folders)].append(picture)
    return tree
