"""A training run on disk: a folder with all that is needed to go on.

settings.json        the model, the data and the training settings
state.safetensors    float32 weights, optimiser state, moving average, step and running sums, as of the last checkpoint
log.jsonl            see `log`
best.safetensors     the best model so far, for inference
run.lock             locked by the process that trains, with its number in it
"""

import errno
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx.checkpoint import CheckpointError, assign, named_arrays, read_arrays, read_metadata, write_arrays
from condconv_mlx.files import replacing
from condconv_mlx.training.log import Log, read_log

STATE = "state.safetensors"
LOCK = "run.lock"
PATIENCE = 1  # seconds; who only looks whether a run goes on holds its lock for a moment


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Attributes:
        state: "running", "finished", "stopped" (it can go on), "failed" (it went wrong) or "empty" (there is none).
        pid: of the process that trains, while it does.
        step, steps: done, and in all, as far as the log says; 0 if it does not.
        epoch: epochs finished.
        message: what the run said when it ended.
    """

    state: str
    pid: int | None
    step: int
    steps: int
    epoch: int
    message: str


def state_arrays(model: nn.Module, optimizer: optim.Optimizer, average: dict[str, mx.array]) -> dict[str, mx.array]:
    """All arrays of a checkpoint by name: weights, optimiser state and moving average."""
    optimizer_arrays: Any = tree_flatten(optimizer.state)
    arrays = {f"model.{name}": value for name, value in named_arrays(model).items()}
    arrays |= {f"optimizer.{name}": value for name, value in optimizer_arrays}
    return arrays | {f"average.{name}": value for name, value in average.items()}


def all_finite(arrays: dict[str, mx.array]) -> bool:
    """Whether no array holds an infinity or a NaN."""
    return mx.stack([mx.isfinite(value).all() for value in arrays.values()]).all().item() is True


def save_state(
    folder: Path,
    model: nn.Module,
    optimizer: optim.Optimizer,
    average: dict[str, mx.array],
    progress: dict[str, Any],
) -> None:
    """Write `state_arrays` and `progress` (plain JSON). `OSError` if that fails; then the old file is still there."""
    try:
        write_arrays(folder / STATE, state_arrays(model, optimizer, average), {"progress": json.dumps(progress)})
    except (OSError, RuntimeError) as error:  # MLX raises the latter
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OSError(f"the checkpoint could not be written to {folder} ({why}): is the disk full?") from error


def saved_step(folder: Path) -> int | None:
    """The step of the checkpoint in a folder, None if there is none. `CheckpointError` if it is damaged."""
    path = folder / STATE
    return _progress(read_metadata(path), path)["step"] if path.exists() else None


def _progress(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    try:
        return json.loads(metadata["progress"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is no training state: {error}") from error


def load_state(
    folder: Path, model: nn.Module, optimizer: optim.Optimizer, average: dict[str, mx.array]
) -> dict[str, Any]:
    """Put a saved state back; returns `progress`. `CheckpointError` if it is missing, damaged or of another model."""
    arrays, metadata = read_arrays(folder / STATE)
    progress = _progress(metadata, folder / STATE)
    assign(model, _under("model.", arrays), str(folder / STATE))
    optimizer.state = tree_unflatten(list(_under("optimizer.", arrays).items()))
    saved = _under("average.", arrays)
    if saved.keys() != average.keys():
        raise CheckpointError(f"{folder / STATE} was written with another setting of the moving average")
    average.update(saved)
    return progress


def _under(prefix: str, arrays: dict[str, mx.array]) -> dict[str, mx.array]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder, and tell them who does. The system lets go even after a kill.

    What a killed process left half written is removed.

    Raises:
        ValueError: if another one trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+") as file:
        if not lock_for_me(file):
            file.seek(0)
            raise ValueError(f"process {file.read().strip()} is training in {folder}: stop it first")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        for name in ("best", "log", "settings", "state"):
            for path in folder.glob(f".{name}.????????.*"):
                path.unlink(missing_ok=True)
        yield


def running_pid(folder: Path) -> int | None:
    """The number of the process that trains in a folder, or None."""
    try:
        with open(Path(folder) / LOCK) as file:
            return int(file.read() or 0) or None if is_locked(file) else None
    except OSError:
        return None


def lock_for_me(file: TextIO) -> bool:
    """Lock an open file, until it and all that inherited it are closed; whether that went within PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not _lock(file, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_locked(file: TextIO) -> bool:
    """Whether another one holds the lock of an open file. If not, this one does until it is closed, beside others who
    look."""
    return not _lock(file, fcntl.LOCK_SH)


def _lock(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Some file systems, of networks for one, have no locks.
        return error.errno in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)
    return True


def run_status(folder: Path, log: Log | None = None) -> RunStatus:
    """Where the run in a folder stands, without opening its weights. `log`: what `read_log` gave, if that is known."""
    folder = Path(folder)
    pid, log = running_pid(folder), log or read_log(folder)
    lines = [*log.steps[-1:], *log.epochs[-1:], *([log.end] if log.end else [])]
    step = max((line.get("step", 0) for line in lines), default=0)
    reason = (log.end or {}).get("reason", "stopped")
    if pid is not None:
        state = "running"
    elif not (folder / "settings.json").exists():
        state = "empty"
    else:
        state = reason if reason in ("finished", "stopped") else "failed"
    return RunStatus(
        state=state,
        pid=pid,
        step=step,
        steps=(log.start or {}).get("steps", 0),
        epoch=log.epochs[-1]["epoch"] if log.epochs else 0,
        message=(log.end or {}).get("message", ""),
    )


def stop_run(folder: Path) -> bool:
    """Ask the run in a folder to save and end, which it does after its current step; whether there was one to ask."""
    pid = running_pid(folder)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def write_json(path: Path, content: Any) -> None:
    """Write plain JSON under a temporary name, and rename it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Plain JSON; `CheckpointError` if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
