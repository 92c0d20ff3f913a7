"""All runs of a study, each in a process of its own. What is done lies in a folder, and is not done again."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from condconv_mlx.study.plan import Run

DONE = "done"  # the folder of results, in that of the study


def finished(folder: Path, run: Run) -> dict[str, Any] | None:
    """The result of a run, or None if it is still to be done."""
    try:
        result = json.loads(_file(folder, run).read_text())
    except (OSError, ValueError):
        return None
    # A name is a hash of the run, but who knows who put a file there.
    return result if isinstance(result, dict) and result.get("run") == asdict(run) else None


def carry_out_all(
    runs: Sequence[Run], folder: Path, processes: int, on_progress: Callable[[Run, float], None]
) -> dict[str, str]:
    """Do those that are not done yet, `processes` at a time, and keep each result in `folder` at once.

    Interrupted, it stops the runs that are under way; they begin anew the next time. `on_progress` hears how far a run
    is, from 0 to 1 when its result is there; it is called from several threads.

    Returns:
        The keys of the runs that failed, and why. `ValueError` if another study is at work in the folder.
    """
    with _alone(folder):
        failed: dict[str, str] = {}
        running: set[subprocess.Popen[str]] = set()
        with ThreadPoolExecutor(processes) as pool:
            futures = {pool.submit(_carry_out, run, folder, processes, on_progress, running): run for run in runs}
            try:
                for future in as_completed(futures):
                    if why := future.result():
                        failed[futures[future].key] = why
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(running):
                    process.kill()
                raise
        return failed


def _carry_out(run: Run, folder: Path, processes: int, on_progress: Any, running: set[Any]) -> str | None:
    """Why the run failed, or None."""
    command = [sys.executable, "-m", "condconv_mlx.study.one", str(_file(folder, run))]
    environment = dict(os.environ)
    if processes > 1:
        environment |= {"OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        # In a group of its own: Ctrl-C in a terminal reaches us alone, and we end it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
            process_group=0,
        )
        running.add(process)
        assert process.stdin and process.stdout
        with process:
            process.stdin.write(json.dumps(asdict(run)))
            process.stdin.close()
            for line in process.stdout:
                on_progress(run, float(line))
        running.discard(process)
        if process.returncode == 0:
            on_progress(run, 1.0)
            return None
        errors.seek(0)
        return (errors.read().strip().splitlines() or [f"ended with status {process.returncode}"])[-1]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another study is at work in {folder}: wait for it, or name another folder with --out"
            ) from None
        yield


def _file(folder: Path, run: Run) -> Path:
    return folder / DONE / f"{run.key}.json"
