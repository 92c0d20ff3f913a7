"""Training as a process of its own, which outlives who started it.

In the folder of such a run lie two files more than training writes:

started.json     the command, its process, and the settings that were asked for
output.txt       what it says on standard output and standard error; locked as long as it lives

So a run shows before its first step, and so does one that went wrong before it.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from condconv_mlx.checkpoint import CheckpointError
from condconv_mlx.training.log import LOG, Log
from condconv_mlx.training.run_folder import (
    RunStatus,
    is_locked,
    lock_for_me,
    read_json,
    running_pid,
    stop_run,
    write_json,
)

OUTPUT = "output.txt"
STARTED = "started.json"
TAIL = 4096  # bytes of the output that are read
COMMAND = "condconv-mlx train --background".split()
# Without -P, Python would look for modules where it is started, before it looks for ours.
PYTHON = [sys.executable, "-P", "-m", "condconv_mlx"]
# How the command line begins what went wrong.
MISTAKE = "condconv-mlx: "


@dataclass(frozen=True)
class Started:
    """What was started.

    Attributes:
        command: words of the command line.
        pid: of the process. It means something only as long as `alive`.
        settings: flat, as those of `runs.finding.Run`, as far as they were known.
    """

    command: list[str]
    pid: int
    settings: dict[str, Any]


def start(folder: Path, name: str, arguments: Sequence[str], settings: dict[str, Any]) -> Path:
    """Train, in a folder of that name or, if there is one, of the next that is free.

    Args:
        folder: that the run's folder lies in. Made if it is not there.
        name: see `check_name`.
        arguments: of `condconv-mlx train`, without `--out`.
        settings: see `Started`.

    Returns:
        The run's folder.
    """
    check_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    for path in map(folder.joinpath, free_names(name)):
        try:
            # Who makes the folder has it, also where two start at once.
            path.mkdir()
            break
        except FileExistsError:
            continue
    _spawn(path, [*arguments, "--out", str(path)], settings)
    return path


def resume(path: Path, epochs: float | None = None) -> None:
    """Go on with the run in a folder, for so many epochs in all. `ValueError` if it is under way."""
    more = [] if epochs is None else ["--epochs", f"{epochs:g}"]
    _spawn(path, ["--resume", str(path), *more], {})


def again(path: Path) -> None:
    """Start anew, as before, what went wrong in a folder before its first step. `ValueError` if nothing was started."""
    known = started(path)
    if known is None:
        raise ValueError(f"it is not known what was started in {path}")
    _spawn(path, known.command[len(COMMAND) :], known.settings)


def check_name(name: str) -> None:
    """`ValueError` unless a folder can have this name."""
    if not re.fullmatch(r"\w[\w .+-]{0,79}", name) or name != name.strip():
        raise ValueError(f"a run cannot be called {name!r}: take letters, digits, spaces, and . + - _, up to 80 in all")


def free_names(name: str) -> Iterator[str]:
    """The name, then name-2, name-3 …"""
    return (name if number == 1 else f"{name}-{number}" for number in count(1))


def free_name(folder: Path, name: str) -> str:
    """The first of `free_names` that nothing in the folder has."""
    return next(each for each in free_names(name) if not (folder / each).exists())


def stop(path: Path) -> bool:
    """Ask the run in a folder to save and end, or the process that has not come to its first step to end; whether there
    was one to ask."""
    if stop_run(path):
        return True
    known = started(path)
    if known is None or not alive(path):
        return False
    try:
        os.kill(known.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def started(path: Path) -> Started | None:
    """What was started in a folder, None if nothing was, or not from here."""
    try:
        content = read_json(path / STARTED)
        return Started(list(content["command"]), int(content["pid"]), dict(content["settings"]))
    except (CheckpointError, KeyError, TypeError, ValueError):
        return None


def alive(path: Path) -> bool:
    """Whether the process that was started in a folder lives."""
    try:
        with open(path / OUTPUT) as output:
            return is_locked(output)
    except OSError:
        return False


def said(path: Path) -> list[str]:
    """The last lines that the process wrote. Of a progress bar only the latest state counts."""
    try:
        with open(path / OUTPUT, "rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - TAIL))
            text = output.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rpartition("\r")[2].strip() for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def mistake(path: Path) -> str:
    """What went wrong, as the process that is over said it at its end; "" if it said nothing of the kind."""
    lines = said(path)
    if lines and lines[-1].startswith(MISTAKE):
        return lines[-1].removeprefix(MISTAKE)
    return lines[-1] if any(line.startswith("Traceback (") for line in lines) else ""


def with_process(path: Path, status: RunStatus, log: Log) -> RunStatus:
    """Where a run stands, also before its first step and after its last.

    Beside the states of `RunStatus` it may be "starting" (no step yet of this sitting) or "ending" (the best model is
    being measured on the test images).
    """
    known = started(path)
    if known is None or status.state == "running":
        return status
    newer = _changed(path / OUTPUT) >= _changed(path / LOG)
    if alive(path):
        # The log ended in this sitting, or in one before it.
        over = log.end is not None and _changed(path / LOG) > _changed(path / STARTED)
        if over and status.state != "finished":
            return status
        return replace(status, state="ending" if over else "starting", pid=known.pid)
    if status.state == "empty":
        why = mistake(path) or "it ended before its first step, without a word: it was stopped, or killed"
        return replace(status, state="failed", message=why)
    if newer and (why := mistake(path)):
        return replace(status, state="finished" if status.state == "finished" else "failed", message=why)
    return status


def _spawn(path: Path, arguments: list[str], settings: dict[str, Any]) -> None:
    with open(path / OUTPUT, "a+") as output:
        if not lock_for_me(output):
            raise ValueError(f"{path.name} is being started already")
        if (pid := running_pid(path)) is not None:
            raise ValueError(f"process {pid} is training in {path.name} already")
        output.truncate(0)
        # Until the new one is known: the number of the old process may be another's by now.
        (path / STARTED).unlink(missing_ok=True)
        command = [*COMMAND, *arguments]
        process = subprocess.Popen(
            [*PYTHON, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        write_json(path / STARTED, {"command": command, "pid": process.pid, "settings": settings})


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
