"""What this software keeps on the machine, how large it is, and removing it.

Only files that bear the names we give are counted and removed, so that what else lies in the same folder stays. A link
is neither followed nor removed.
"""

import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from condconv_mlx.files import cache_dir


@dataclass(frozen=True)
class Kept:
    """Something that has a name here.

    Attributes:
        name: what the user calls it.
        what: in a few words.
        path: the file or folder that it lies in. It may not exist.
        files: what removing it deletes.
        size: in bytes.
        elsewhere: how to remove what is not ours alone, or "".
    """

    name: str
    what: str
    path: Path
    files: tuple[Path, ...]
    size: int
    elsewhere: str = ""


def kept() -> list[Kept]:
    """Everything there is a name for, also what is not here, in the order of a list for users. Needs no network."""
    return [*_datasets(), _pictures(), _tuning(), _experts(), *_hub()]


def remove(entry: Kept) -> None:
    """Delete its files, and its folders where nothing is left in them.

    `ValueError` if it lies outside our folder, or is being downloaded.
    """
    if entry.elsewhere:
        raise ValueError(f"{entry.name} is not removed here: {entry.elsewhere}")
    for path in entry.files:
        if path.suffix == ".part" and _locked(path):
            raise ValueError(f"{entry.name} is being downloaded right now by another process")
    for path in entry.files:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in entry.files}:
        # It may have gone with one below it.
        while folder != cache_dir() and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


def size_below(folder: Path) -> int:
    """Bytes of all files in a folder and those below it; links are not followed. 0 if there is none."""
    return sum(
        os.lstat(path).st_size
        for root, _, names in os.walk(folder)
        for name in names
        if (path := Path(root, name)).is_file() and not path.is_symlink()
    )


def _datasets() -> list[Kept]:
    from condconv_mlx.data.cifar import CIFAR10, CIFAR100
    from condconv_mlx.data.mnist import FASHION_MNIST, MNIST

    cache, entries = cache_dir(), []
    for cifar in (CIFAR10, CIFAR100):
        folder = cache / cifar.name
        names = [cifar.archive, cifar.archive.removesuffix(".gz"), f"{cifar.archive}.part"]
        names += [f"{cifar.folder}/{name}" for name in (*cifar.train, *cifar.test)]
        # What else is in the official archive.
        names += [f"{cifar.folder}/{name}" for name in _CIFAR_EXTRAS]
        entries.append(_entry(cifar.name, "data set", folder, (folder / name for name in names)))
    for mnist in (MNIST, FASHION_MNIST):
        folder = cache / mnist.folder
        names = [form for name in mnist.md5 for form in (name, name.removesuffix(".gz"), f"{name}.part")]
        entries.append(_entry(mnist.name, "data set", folder, (folder / name for name in names)))
    return entries


_CIFAR_EXTRAS = ("batches.meta.txt", "readme.html", "coarse_label_names.txt", "fine_label_names.txt")


def _pictures() -> Kept:
    folder = cache_dir() / "folders"
    # With a dot in front, what was half written when a process was killed.
    files = (path for pattern in ("*.npz", ".*.npz") for path in folder.glob(pattern))
    return _entry("pictures", "decoded pictures of folder:PATH", folder, files)


def _tuning() -> Kept:
    folder = cache_dir()
    files = folder.glob("tuning.json*")
    return _entry("tuning", "what tune measured", folder / "tuning.json", files)


def _experts() -> Kept:
    file = cache_dir() / "experts.json"
    return _entry("experts", "what the app measured of experts' costs", file, [file])


def _hub() -> list[Kept]:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    from condconv_mlx.convert.hub import HUB_MODELS

    entries = []
    for name, model in HUB_MODELS.items():
        folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=model.repo, repo_type="model")
        advice = f"it lies in the hub's own cache, which other programs share: hf cache rm model/{model.repo}"
        entries.append(Kept(name, "weights from the hub", folder, (), size_below(folder), advice))
    return entries


def _entry(name: str, what: str, place: Path, candidates: Iterable[Path]) -> Kept:
    files = tuple(sorted({path for path in candidates if _own(path)}))
    return Kept(name, what, place, files, sum(os.lstat(path).st_size for path in files))


def _own(path: Path) -> bool:
    """Whether it is a file, with no link on the way to it from our folder."""
    inside: Sequence[Path] = [parent for parent in (path, *path.parents) if parent.is_relative_to(cache_dir())]
    return path.is_file() and not any(part.is_symlink() for part in inside if part != cache_dir())


def _locked(part: Path) -> bool:
    with part.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
