"""Which pictures a folder holds, and which class each belongs to. The same rules serve a zip, see `archive`.

There are two layouts: train/<class>/* and test/<class>/*, or <class>/* alone, to be split later. The first is taken
where both train/ and test/ are there, and then nothing beside them counts. One folder around all this is looked
through. Only pictures that lie directly in the folder of a class count: deeper folders, and pictures beside the
classes, are left out. So is what is hidden (a name that begins with a dot), __MACOSX, a name with a control
character (macOS writes "Icon\\r"), and every file whose suffix is not in SUFFIXES (Thumbs.db, notes).
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from condconv_mlx.data.dataset import DataError, few

SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
SPLITS = ("train", "test")
# A folder around it all, train/, a class, and one more to notice pictures that lie too deep.
DEPTH = 4
LAYOUT = "pictures belong in a folder for each class, or in train/<class>/ and test/<class>/"


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that may be a picture: its path below the top with slashes, what changes with its content, its bytes."""

    name: str
    stamp: str
    open: Callable[[], IO[bytes]]

    @property
    def file(self) -> str:
        """Its name without the folders."""
        return self.name.rpartition("/")[2]


# The pictures directly in each folder, by the path of the folder; the top is "".
Tree = dict[str, list[Picture]]
# The pictures of each class, for "train" and "test"; or for "all", where the folder leaves the split to us.
Classes = dict[str, dict[str, list[Picture]]]


def list_folder(path: Path) -> Tree:
    """The pictures in a folder and its sub-folders, to the depth that counts."""
    tree: Tree = {"": []}
    _walk(path, [], tree)
    return tree


def visible(part: str) -> bool:
    """Whether a file or folder of this name is one that a person put there, and may be shown in a terminal."""
    return not part.startswith(".") and part != "__MACOSX" and not re.search(r"[\x00-\x1f\x7f-\x9f]", part)


def is_picture(name: str) -> bool:
    """Whether the suffix is that of a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def joined(parts: Iterable[str]) -> str:
    """A path below the top. macOS writes é as two characters where others write one, so both become one."""
    return unicodedata.normalize("NFC", "/".join(parts))


def classes_of(tree: Tree, place: Path) -> Classes:
    """Sort pictures into classes by the layout they lie in, classes and files by name. Raises DataError."""
    tree, top = _look_through(tree)
    here = place / top
    names = _children(tree, "")
    if set(SPLITS) <= set(names):
        found = {split: _classes(tree, f"{split}/") for split in SPLITS}
        _check_same_classes(found, here)
    elif lone := [split for split in SPLITS if split in names and not tree[split] and _children(tree, f"{split}/")]:
        other = "test" if lone == ["train"] else "train"
        raise DataError(f"{here} has {lone[0]}/ but no folder {other}/: {LAYOUT}")
    else:
        found = {"all": _classes(tree, "")}
    for split, classes in found.items():
        _check_classes(tree, classes, here, "" if split == "all" else f"{split}/")
    return found


def _walk(folder: Path, parts: list[str], tree: Tree) -> None:
    for entry in os.scandir(folder):
        if not visible(entry.name):
            continue
        name = joined([*parts, entry.name])
        if entry.is_dir() and len(parts) < DEPTH:
            tree.setdefault(name, [])
            _walk(Path(entry), [*parts, entry.name], tree)
        elif is_picture(entry.name) and entry.is_file():
            status = entry.stat()
            picture = Picture(name, f"{status.st_size} {status.st_mtime_ns}", partial(_opened, entry.path))
            tree[joined(parts)].append(picture)


def _opened(path: str) -> IO[bytes]:
    return open(path, "rb")


def _look_through(tree: Tree) -> tuple[Tree, str]:
    """The tree below the one folder around it all, if there is one, and that folder's name or ""."""
    names = _children(tree, "")
    if tree[""] or len(names) != 1 or names[0] in SPLITS or tree[names[0]] or not _children(tree, f"{names[0]}/"):
        return tree, ""
    (top,) = names
    return {folder.removeprefix(top).removeprefix("/"): held for folder, held in tree.items() if folder}, top


def _children(tree: Tree, prefix: str) -> list[str]:
    """Names of the folders directly below one, given as "" or with a slash at its end."""
    below = (folder.removeprefix(prefix) for folder in tree if folder.startswith(prefix))
    return sorted(name for name in below if name and "/" not in name)


def _classes(tree: Tree, prefix: str) -> dict[str, list[Picture]]:
    # A zip may hold a name twice; as when it is unpacked, the later file counts.
    named = {name: {picture.name: picture for picture in tree[prefix + name]} for name in _children(tree, prefix)}
    return {name: [pictures[key] for key in sorted(pictures)] for name, pictures in named.items()}


def _check_same_classes(found: Classes, here: Path) -> None:
    for split, other in (SPLITS, SPLITS[::-1]):
        if missing := [name for name in found[split] if name not in found[other]]:
            raise DataError(f"{here}: classes of {split}/ that {other}/ lacks: {few(missing)}; add them or remove them")


def _check_classes(tree: Tree, classes: dict[str, list[Picture]], here: Path, prefix: str) -> None:
    if not classes:
        raise DataError(f"{here} has no classes: {LAYOUT}")
    for name, pictures in classes.items():
        if not pictures:
            deep = any(held for folder, held in tree.items() if folder.startswith(f"{prefix}{name}/"))
            why = "those in deeper folders do not count" if deep else f"files end in {', '.join(sorted(SUFFIXES))}"
            raise DataError(f"{here / prefix / name} holds no pictures: {why}")
    if len(classes) == 1:
        raise DataError(
            f"{here} has only one class, {next(iter(classes))}: a network needs two to tell apart; {LAYOUT}"
        )
