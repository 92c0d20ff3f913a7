"""What experts cost on this device when that was last measured for the app: `experts.json` in the cache folder.

A record for each convolution, with or without gradients; those of other devices and versions of MLX stay beside them.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from condconv_mlx.bench.cases import Shape
from condconv_mlx.bench.experts import IN_TURNS, ExpertRow
from condconv_mlx.files import atomic_file, cache_dir
from condconv_mlx.functional.tuned import Place, place


@dataclass(frozen=True)
class Measured:
    """Rows of one convolution, and the local time of the last of them."""

    date: str
    rows: tuple[ExpertRow, ...]


def path() -> Path:
    """The file. It may not exist yet."""
    return cache_dir() / "experts.json"


def load() -> dict[tuple[Shape, bool], Measured]:
    """All that was measured here, by shape and whether gradients are included; nothing if it cannot be read."""
    here = list(place())
    return {_key(record): _measured(record) for record in _records() if record["place"] == here}


def keep(rows: Sequence[ExpertRow]) -> Measured:
    """Keep the rows of one convolution in the place of those before; `OSError` if that fails."""
    date = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    new = {
        "place": list(place()),
        "shape": asdict(rows[0].shape),
        "backward": rows[0].backward,
        "date": date,
        "milliseconds": [[row.experts, row.ms] for row in rows],
    }
    same = ("place", "shape", "backward")
    others = [record for record in _records() if any(record[key] != new[key] for key in same)]
    with atomic_file(path()) as file:
        file.write(json.dumps([*others, new]).encode())
    return _measured(new)


def _records() -> list[dict[str, Any]]:
    try:
        records = json.loads(path().read_bytes())
        for record in records:
            hash(_key(record))
            _measured(record)
            Place(*record["place"])
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):
        return []
    return records


def _key(record: dict[str, Any]) -> tuple[Shape, bool]:
    return Shape(**record["shape"]), record["backward"]


def _measured(record: dict[str, Any]) -> Measured:
    shape, backward = _key(record)
    rows = [
        ExpertRow(shape, backward, int(experts), {name: float(ms[name]) for name in IN_TURNS})
        for experts, ms in record["milliseconds"]
    ]
    if not rows or not all(row.experts > 0 and 0 < ms < math.inf for row in rows for ms in row.ms.values()):
        raise ValueError("there are no rows, or some that cannot be")
    return Measured(str(record["date"]), tuple(rows))
