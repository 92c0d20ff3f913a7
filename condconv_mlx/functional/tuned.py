"""What `condconv-mlx tune` measured, in a file of this user: `tuning.json` in the cache folder.

One line a case, with the device and the version of MLX that it was measured with, so that one file serves a home folder
that several machines share. What cannot be read is set aside with a warning; nothing here keeps a program from working.
"""

import fcntl
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from condconv_mlx import cpu
from condconv_mlx.files import atomic_file, cache_dir
from condconv_mlx.functional.defaults import Case, candidates
from condconv_mlx.functional.geometry import Geometry

_FORMAT = 1


class Place(NamedTuple):
    """What a measurement holds for."""

    device: str
    mlx: str


class Measurement(NamedTuple):
    """The strategy to use for a case, and the median milliseconds of each that was measured."""

    strategy: str
    milliseconds: dict[str, float]


Table = dict[tuple[Place, Case], Measurement]


def path() -> Path:
    """The file. It may not exist yet."""
    return cache_dir() / "tuning.json"


def place() -> Place:
    """The default device, by name, and the version of MLX."""
    name = str(mx.device_info().get("device_name", "unknown"))
    if mx.default_device() == mx.cpu:
        # The name of a processor, a virtual one above all, does not tell how much of it is ours.
        name += f", {os.cpu_count()} CPU cores"
        if cpu.parts() > 1:
            name += f", {cpu.parts()} parts at once"
    return Place(name, str(vars(mx)["__version__"]))


@cache
def strategies(device: str) -> dict[Case, str]:
    """What was measured on the default device with this version of MLX. Read once for each `device`, its short name."""
    here = place()
    return {case: measured.strategy for (where, case), measured in read().items() if where == here}


def read() -> Table:
    """All measurements; none if there is no file. A damaged file is renamed, with a warning."""
    try:
        file = path()
    except RuntimeError:  # a user without a home folder
        return {}
    try:
        return _parse(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        _set_aside(file, error)
        return {}


def keep(measured: Mapping[Case, Measurement]) -> None:
    """Add measurements on the default device to the file; `OSError` if it cannot be written."""
    here = place()
    with _alone():
        _write(read() | {(here, case): measurement for case, measurement in measured.items()})


def clear() -> int:
    """Forget what was measured on the default device, with any version of MLX. Returns how many cases that were."""
    with _alone():
        before = read()
        after = {key: measurement for key, measurement in before.items() if key[0].device != place().device}
        if len(after) < len(before):
            _write(after)
    return len(before) - len(after)


def _write(table: Table) -> None:
    lines = ",\n".join(json.dumps(_record(*key, measurement)) for key, measurement in table.items())
    with atomic_file(path()) as file:
        file.write(f'{{"format": {_FORMAT}, "measured": [\n{lines}\n]}}\n'.encode())
    strategies.cache_clear()


@contextmanager
def _alone() -> Iterator[None]:
    """No other process reads and then writes the file meanwhile."""
    folder = path().parent
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot lock. There, the last of two at the same moment wins.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _set_aside(file: Path, error: Exception) -> None:
    names = (f"{file.name}.damaged{number or ''}" for number in count())
    aside = next(free for name in names if not (free := file.with_name(name)).exists())
    try:
        file.rename(aside)
        done = f"set aside as {aside.name}"
    except OSError:
        done = "left there and ignored"
    warnings.warn(
        f"{file} cannot be used ({error}) and was {done}. Default strategies serve until condconv-mlx tune runs again.",
        stacklevel=2,
    )


def _record(where: Place, case: Case, measured: Measurement) -> dict[str, Any]:
    fields = case._asdict() | case.geometry._asdict()
    del fields["geometry"]
    return where._asdict() | fields | measured._asdict()


def _parse(text: bytes) -> Table:
    """The table of a file's text; `ValueError` if it is anything but what `_write` writes."""
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}, and this version knows {_FORMAT}")
        return dict(map(_entry, content["measured"]))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not as tune writes it, {type(error).__name__}: {error}") from error


def _entry(record: dict[str, Any]) -> tuple[tuple[Place, Case], Measurement]:
    (top, bottom), (left, right) = record["padding"]
    geometry = Geometry(_pair(record["stride"]), ((top, bottom), (left, right)), _pair(record["dilation"]))
    case = Case(
        tuple(record["x"]),
        tuple(record["kernel"]),
        record["experts"],
        geometry._replace(groups=record["groups"]),
        record["dtype"],
        record["training"],
    )
    hash(case)  # TypeError for a list where a number belongs
    strategy = record["strategy"]
    if strategy not in candidates(case):
        raise ValueError(f"it names a strategy {strategy!r} that there is not")
    return (Place(record["device"], record["mlx"]), case), Measurement(strategy, dict(record["milliseconds"]))


def _pair(values: list[int]) -> tuple[int, int]:
    height, width = values
    return height, width
