"""Several processes, on one machine or more, that train one model together.

Each takes its part of every batch, and gradients are averaged, by MLX's own communication (`mx.distributed`). Started
by `launch` on one machine, or by `mlx.launch` on several, a process finds the others through its environment. Without
that it is alone, and everything here leaves things as they are.
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx.training.stopping import caught_signals

RANK = "MLX_RANK"
HOSTS = "MLX_HOSTFILE"
PATIENCE = 20  # seconds that processes have to end after one has failed


def rank_and_size() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    group = mx.distributed.init()
    return group.rank(), group.size()


def own_part(count: int) -> slice | None:
    """The part of a batch of `count` images, a multiple of the processes, that this one trains on; None is all."""
    rank, size = rank_and_size()
    return slice(rank * count // size, (rank + 1) * count // size) if size > 1 else None


def sums(values: Sequence[float]) -> list[float]:
    """The sum of each number over all processes, in float32 where there are several."""
    _, size = rank_and_size()
    return list(values) if size == 1 else np.array(_sum(mx.array(list(values)))).tolist()


def same_as_first(tree: Any) -> Any:
    """A tree of arrays, with the values that the first process has."""
    rank, size = rank_and_size()
    if size == 1:
        return tree
    flat: Any = tree_flatten(tree)
    # What came from a file may be in another order than what was made here.
    flat.sort(key=lambda item: item[0])
    return tree_unflatten([(name, _sum(value if rank == 0 else mx.zeros_like(value))) for name, value in flat])


def told_by_first(tell: Callable[[], Any]) -> Any:
    """What `tell` gives in the first process, plain JSON; it is called there alone. Its `ValueError` reaches all."""
    rank, size = rank_and_size()
    if size == 1:
        return tell()
    error, text = None, b""
    if rank == 0:
        try:
            text = json.dumps({"told": tell()}).encode()
        except ValueError as caught:
            error, text = caught, json.dumps({"error": str(caught)}).encode()
    length = int(np.array(_sum(mx.array(len(text)))))
    sent = mx.array(np.frombuffer(text.ljust(length), dtype=np.uint8).astype(np.int32))
    received = np.array(_sum(sent if rank == 0 else mx.zeros_like(sent)))
    told = json.loads(received.astype(np.uint8).tobytes())
    if error or "error" in told:
        raise error or ValueError(told["error"])
    return told["told"]


def average_statistics(model: nn.Module, average: dict[str, mx.array]) -> None:
    """Give the running statistics of batch normalisation their mean over all processes, in the moving average too."""
    _, size = rank_and_size()
    norms: list[Any] = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm) and module.track_running_stats
    ]
    if size == 1 or not norms:
        return
    places = [(norm, name) for _, norm in norms for name in ("running_mean", "running_var")]
    if average:
        places += [(average, f"{norm}.{name}") for norm, _ in norms for name in ("running_mean", "running_var")]
    means = _sum(mx.concatenate([where[name] for where, name in places])) / size
    start = 0
    for where, name in places:
        where[name] = means[start : start + where[name].size]
        start += where[name].size


def _sum(value: mx.array) -> mx.array:
    """The sum over all processes, done now: sums left lazy are sent in the order in which a process comes to them.

    Where that order differs from process to process they wait for each other for ever.
    """
    total = mx.distributed.all_sum(value)
    mx.eval(total)
    return total


def launch(command: Sequence[str], processes: int) -> int:
    """Run a command in several processes on this machine that find each other; the first one's output is shown.

    Returns:
        The exit status of the first that failed, else 0; 130 after Ctrl-C and 143 after SIGTERM, which each of them
        gets once. When one fails the others are stopped.
    """
    with ExitStack() as stack:
        hosts = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="condconv-mlx-"))) / "hosts.json"
        # A ring of one cannot be closed.
        ports = _free_ports(processes) if processes > 1 else []
        hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in ports]))
        threads = str(max(1, (os.cpu_count() or 1) // processes))
        caught = stack.enter_context(caught_signals())
        running = []
        for rank in range(processes):
            environment = {"OPENBLAS_NUM_THREADS": threads, **os.environ}
            if ports:
                environment |= {RANK: str(rank), HOSTS: str(hosts)}
            output = None if rank == 0 else subprocess.DEVNULL
            # A terminal would send Ctrl-C to all of one session, and we would send it again.
            running.append(subprocess.Popen(command, env=environment, stdout=output, start_new_session=True))
            stack.callback(_end, running[-1])
        return _wait(running, caught)


def _wait(running: list[subprocess.Popen], caught: list[int]) -> int:
    """Until all have ended, or some time after one has failed. The status of the first failure.

    What is `caught` of SIGINT and SIGTERM is handed on.
    """
    failed, deadline = 0, float("inf")
    while any(process.poll() is None for process in running) and time.monotonic() < deadline:
        signals = []
        time.sleep(0.05)
        if caught and not failed:
            failed, signals = 128 + caught[0], [caught[0]]
        elif not failed and (statuses := [status for process in running if (status := process.poll())]):
            failed, signals = statuses[0], [signal.SIGTERM]
        for number in signals:
            deadline = min(deadline, time.monotonic() + PATIENCE)
            for process in running:
                process.send_signal(number)
    return failed or next((status for process in running if (status := process.poll())), 0)


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
