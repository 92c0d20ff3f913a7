"""The machine and the versions that a measurement belongs to."""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path

from condconv_mlx.bench.peers import Peer
from condconv_mlx.cpu import cpu_status


@dataclass(frozen=True)
class Machine:
    """What a figure depends on, beside the code.

    Attributes:
        date: local time when the measurement began.
        version: of condconv-mlx.
        system: `"macOS-15.1"`.
        processor: `"Apple M3"`.
        cores: that this process may use, and as many threads has the peer.
        parts: in which our layers compute at once, with one BLAS thread each; 1 if the BLAS has the threads.
        load: how many processes were running or waiting over the last minute; None where the system does not say.
        mlx: its version.
        device: what MLX computes on, `"cpu"` or `"gpu"`, and its name.
        blas, memory_kept: see `condconv_mlx.cpu.CpuStatus`.
        tuned: cases for which `condconv-mlx tune` chose the strategy here; the defaults serve all others.
        peer: name and device of the other implementation; None if it is not installed or not wanted.
    """

    date: str
    version: str
    system: str
    processor: str
    cores: int
    parts: int
    load: float | None
    mlx: str
    device: str
    blas: str
    memory_kept: bool
    tuned: int
    peer: str | None


def describe_machine(peer: Peer | None) -> Machine:
    """This machine, now."""
    import mlx.core as mx

    from condconv_mlx.functional import tuned

    kind = "cpu" if mx.default_device() == mx.Device(mx.cpu) else "gpu"
    status = cpu_status()
    return Machine(
        date=datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        version=metadata.version("condconv-mlx"),
        system=platform.platform(terse=True),
        processor=_processor(),
        cores=status.cores,
        parts=status.parts,
        load=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        mlx=metadata.version("mlx"),
        device=f"{kind}, {mx.device_info().get('device_name', 'unknown')}",
        blas=status.blas,
        memory_kept=status.memory_kept,
        tuned=len(tuned.strategies(str(mx.default_device()))),
        peer=f"{peer.name} on {peer.device}" if peer else None,
    )


def _processor() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
