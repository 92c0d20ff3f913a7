"""Training runs below a folder: where they stand, how they differ, and deleting them."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from condconv_mlx.checkpoint import CheckpointError, read_metadata
from condconv_mlx.runs.process import OUTPUT, STARTED, alive, started, with_process
from condconv_mlx.training.log import LOG, Log, read_log
from condconv_mlx.training.run_folder import LOCK, STATE, RunStatus, locked, read_json, run_status

SETTINGS = "settings.json"
BEST = "best.safetensors"
LINES = 20  # of the log, by which the pace is judged
FILES = (SETTINGS, STARTED, OUTPUT, LOG, STATE, BEST)


@dataclass(frozen=True)
class Run:
    """A run as it lies on disk.

    Attributes:
        name: its path below the folder that was searched.
        path: its folder.
        status: see `run_status` and `with_process`.
        settings: what it was started with, flat: "data", "model" and "model.NAME" for the network, "training.NAME".
        log: what it logged. Shared: not to be written to.
        best_epoch, held_out_accuracy, test_accuracy: of its best model, the accuracies from 0 to 1; None where they
            are not known.
        seconds: of training so far.
        changed: when it last wrote something.
    """

    name: str
    path: Path
    status: RunStatus
    settings: dict[str, Any]
    log: Log
    best_epoch: int | None
    held_out_accuracy: float | None
    test_accuracy: float | None
    seconds: float
    changed: datetime

    @property
    def network(self) -> str:
        """The network in a few words: "condconv_small, 8 experts"."""
        experts = self.settings.get("model.num_experts")
        return f"{self.settings.get('model', '?')}, {'static' if experts is None else f'{experts} experts'}"

    @property
    def epochs(self) -> str:
        """How far it is: "12 of 30"."""
        total = self.settings.get("training.epochs")
        return f"{self.status.epoch} of {total:g}" if isinstance(total, int | float) else str(self.status.epoch)

    @property
    def under_way(self) -> bool:
        """Whether a process is at work on it."""
        return self.status.state in ("starting", "running", "ending")

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the last lines of its log, None as long as nothing is known."""
        last = self.log.steps[-LINES:]
        if len(last) < 2 or not self.status.steps:
            return None
        done, seconds = (last[-1][name] - last[0][name] for name in ("step", "seconds"))
        return (self.status.steps - self.status.step) * seconds / done if done > 0 else None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, without the log."""
        return {
            "name": self.name,
            "path": str(self.path),
            "state": self.status.state,
            "pid": self.status.pid,
            "message": self.status.message,
            "epoch": self.status.epoch,
            "step": self.status.step,
            "steps": self.status.steps,
            "best_epoch": self.best_epoch,
            "held_out_accuracy": self.held_out_accuracy,
            "test_accuracy": self.test_accuracy,
            "seconds": self.seconds,
            "changed": self.changed.isoformat(timespec="seconds"),
            "settings": self.settings,
        }


def find_runs(folder: Path) -> list[Run]:
    """The runs in a folder and those below it, the latest first. Links are not followed. `ValueError` if it is none."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: name one with --folder")
    runs = [run for path in _folders(folder) if (run := _read(folder, path))]
    return sorted(runs, key=lambda run: run.changed, reverse=True)


def _folders(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        if SETTINGS in files or STARTED in files:
            # What lies in a run is the run's.
            folders.clear()
            yield Path(root)


def _read(folder: Path, path: Path) -> Run | None:
    """A run, or None if the folder holds something else."""
    signature = tuple(_signature(path / name) for name in FILES)
    content = _content(path, signature)
    if content is None:
        return None
    settings, log, best = content
    lines = [*log.steps[-1:], *log.epochs[-1:]]
    return Run(
        name=path.relative_to(folder).as_posix() if path != folder else path.absolute().name,
        path=path,
        status=with_process(path, run_status(path, log), log),
        settings=settings,
        log=log,
        best_epoch=best.get("epoch"),
        held_out_accuracy=best.get("held_out_accuracy"),
        test_accuracy=best.get("test_accuracy"),
        seconds=max((line.get("seconds", 0.0) for line in lines), default=0.0),
        changed=datetime.fromtimestamp(max(time for time, _ in signature) / 1e9).astimezone(),
    )


def _signature(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=512)
def _content(path: Path, signature: tuple) -> tuple[dict[str, Any], Log, dict[str, Any]] | None:
    """Settings, log and what the best model says, read again only when a file has changed: some look every second."""
    settings = _settings(path)
    return None if settings is None else (settings, read_log(path), _told_by(path / BEST))


def _settings(path: Path) -> dict[str, Any] | None:
    """What a run was started with, None if there is no run."""
    if not (path / SETTINGS).exists():
        known = started(path)
        return None if known is None else {"data": "?", **known.settings}
    try:
        content = read_json(path / SETTINGS)
        settings = {"data": content["data"], "model": content["config"]["name"]}
        settings |= {f"model.{name}": value for name, value in content["config"].items() if name != "name"}
        settings |= {f"training.{name}": value for name, value in content["training"].items()}
        return settings | {f"pretrained.{name}": value for name, value in (content.get("pretrained") or {}).items()}
    except (CheckpointError, KeyError, TypeError, AttributeError):
        return None


def _told_by(path: Path) -> dict[str, Any]:
    """What the best model says of its training; nothing if there is none yet, or it is damaged."""
    try:
        told = json.loads(read_metadata(path)["condconv_mlx"])["info"]["training"]
    except (CheckpointError, OSError, ValueError, KeyError, TypeError):
        return {}
    return told if isinstance(told, dict) else {}


def chosen(runs: Sequence[Run], names: Sequence[str]) -> list[Run]:
    """The runs of these names, or in these folders, in this order. `ValueError` for one that there is not."""
    from condconv_mlx.names import did_you_mean

    found = []
    for name in dict.fromkeys(names):
        by_name = [run for run in runs if run.name == name] or [
            run for run in runs if run.path.resolve() == Path(name).expanduser().resolve()
        ]
        if not by_name:
            raise ValueError(f"there is no run {name}.{did_you_mean(name, [run.name for run in runs])}")
        found += by_name
    return found


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, each with its values by run; None where a run has no such setting."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}


def shown(value: Any) -> str:
    """A setting as a word."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def delete(run: Run) -> list[Path]:
    """Delete the files of a run, and its folder if nothing is left in it.

    Returns:
        What is left in the folder: files that training did not write.

    Raises:
        ValueError: if it is running.
    """
    if alive(run.path):
        raise ValueError(f"{run.name} is under way: stop it first")
    with locked(run.path):
        for name in (BEST, STATE, LOG, SETTINGS, STARTED, OUTPUT, LOCK):
            (run.path / name).unlink(missing_ok=True)
    left = sorted(run.path.iterdir())
    if not left:
        run.path.rmdir()
    return left
