"""What this machine has, how fast it computes, what is missing, and how to get it: for the command and the app.

MLX is not imported where it is not found, so that this answers where nothing works.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from condconv_mlx import _backend, cpu

OLDEST_PYTHON = (3, 11)
OLDEST_MACOS = 14
_MLX_BACKENDS = ("mlx-metal", "mlx-cpu", "mlx-cuda-12", "mlx-cuda-13")
_PLAIN_SPEED = "from condconv_mlx import cpu; print(cpu.measure_gflops(), cpu.measure_write_speed())"
# A measurement is made of short ones, between which other work of the same thread has its turn; the best counts.
_TURNS, _TURN_SECONDS = 6, 0.05

# Calls a function without arguments, on the thread that MLX belongs to if that is another.
Caller = Callable[[Callable[[], Any]], Any]


def _at_once(function: Callable[[], Any]) -> Any:
    return function()


def examine(call: Caller = _at_once) -> dict[str, Any]:
    """Everything that the command prints, as plain JSON; None stands for what could not be found out.

    All that MLX computes goes through `call`, in pieces of a tenth of a second.
    """
    report: dict[str, Any] = {
        "version": metadata.version("condconv-mlx"),
        "python": {
            "version": platform.python_version(),
            "architecture": platform.machine(),
            "executable": sys.executable,
        },
        "system": _system(),
        "mlx": {"version": _version("mlx"), "backends": _backends(), "device": None, "device_name": None},
        "cpu": None,
        "speed": None,
        "tuning": None,
        "datasets": _datasets(),
        "weights": _weights(),
        "problems": _problems(),
        "advice": [],
    }
    status = cpu.tune_process()
    report["cpu"] = {"blas": status.blas, "memory_kept": status.memory_kept}
    try:
        _backend.check()
        report["mlx"] |= call(_device)
        report["speed"] = _speed(report["mlx"]["device"], call)
        report["tuning"] = call(_tuning)
    except Exception as error:  # MLX raises several kinds where a driver is missing, and this has to report them all.
        if not report["problems"]:
            report["problems"].append(" ".join(str(error).split()))
    report["advice"] = _advice(report, status)
    return report


def rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The report as names and values, without its problems and advice."""
    python, system, mlx, speed = report["python"], report["system"], report["mlx"], report["speed"]
    return [
        ("condconv-mlx", report["version"]),
        ("Python", f"{python['version']}, {python['architecture']} ({python['executable']})"),
        ("System", f"{system['name']} {system['version']}"),
        ("MLX", ", ".join([mlx["version"] or "not installed", *mlx["backends"]])),
        ("Device", f"{mlx['device']}, {mlx['device_name']}" if mlx["device"] else "none"),
        ("BLAS", report["cpu"]["blas"]),
        *_speed_rows(speed, report["cpu"]["memory_kept"]),
        *_tuning_rows(report["tuning"]),
        *(
            (f"Data {name}", place or "not here; downloaded when first used")
            for name, place in report["datasets"].items()
        ),
        ("Weights", ", ".join(report["weights"]) or "none"),
    ]


def _speed_rows(speed: dict[str, float | None] | None, memory_kept: bool) -> list[tuple[str, str]]:
    if speed is None:
        return []
    products = f"{speed['gflops']:.0f} GFLOP/s in float32 matrix products"
    if speed["plain_gflops"]:
        products += f"; {speed['plain_gflops']:.0f} in a program that does not call condconv_mlx.cpu.tune_process()"
    rows = [("Speed", products)]
    if speed["write_gb_per_s"]:
        memory = (
            f"{'kept' if memory_kept else 'handed back'}: new arrays are written at {speed['write_gb_per_s']:.1f} GB/s"
        )
        if speed["plain_write_gb_per_s"]:
            memory += f"; {speed['plain_write_gb_per_s']:.1f} without that call"
        rows.append(("Memory", memory))
    return rows


def _tuning_rows(tuning: dict[str, Any] | None) -> list[tuple[str, str]]:
    if tuning is None:
        return []
    if tuning["cases"] == 0:
        return [("Tuning", "nothing measured on this device; defaults serve until condconv-mlx tune")]
    cases = "1 case" if tuning["cases"] == 1 else f"{tuning['cases']} cases"
    return [("Tuning", f"{cases} measured on this device with this version of MLX ({tuning['file']})")]


def _problems() -> list[str]:
    """What keeps MLX or condconv-mlx from working here, found without importing MLX."""
    problems = []
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        problems.append(
            f"this is Python {platform.python_version()}, and {wanted} or newer is needed: install one and make a new "
            "virtual environment with it"
        )
    if sys.platform == "darwin":
        if _backend.runs_under_rosetta():
            problems.append(_backend.ROSETTA)
        elif platform.machine() != "arm64":
            problems.append("this Mac has an Intel processor: MLX needs Apple silicon (M1 or newer)")
        version = platform.mac_ver()[0]
        if int(version.partition(".")[0] or 0) < OLDEST_MACOS:
            problems.append(f"this is macOS {version}, and MLX needs {OLDEST_MACOS} or newer: update macOS")
    elif sys.platform != "linux":
        problems.append(f"MLX runs on macOS and Linux, not on {platform.system()}: on Windows, use WSL")
    installed = [name.partition(" ")[0] for name in _backends()]
    if len(installed) > 1:
        problems.append(
            f"{' and '.join(installed)} are both installed and overwrite each other's library: pip uninstall "
            f"{' '.join(installed)}, then install one of them again"
        )
    return problems


def _advice(report: dict[str, Any], status: cpu.CpuStatus) -> list[str]:
    advice = list(status.advice) if report["mlx"]["device"] != "gpu" else []
    if sys.platform == "linux" and report["mlx"]["device"] == "cpu" and shutil.which("nvidia-smi"):
        advice.append(
            "an NVIDIA GPU seems to be here: pip uninstall mlx-cpu, then pip install 'mlx[cuda13]', or [cuda12]"
        )
    if not report["weights"]:
        advice.append("no trained weights came with this installation: train some with condconv-mlx train")
    if find_spec("pillow_heif") is None:
        advice.append("for HEIC photos, as iPhones take them: pip install pillow-heif")
    return advice


def _system() -> dict[str, str]:
    if sys.platform == "darwin":
        return {"name": "macOS", "version": platform.mac_ver()[0]}
    try:
        release = platform.freedesktop_os_release()
        return {"name": release["NAME"], "version": release.get("VERSION_ID", "")}
    except (OSError, KeyError):
        return {"name": platform.system(), "version": platform.release()}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _backends() -> list[str]:
    """Packages that bring something to compute with, `"mlx-cpu 0.32.4"`."""
    return [f"{name} {version}" for name in _MLX_BACKENDS if (version := _version(name))]


def _device() -> dict[str, str]:
    import mlx.core as mx

    device = mx.default_device()
    kind = "cpu" if device == mx.Device(mx.cpu) else "gpu"
    return {"device": kind, "device_name": str(mx.device_info().get("device_name", "unknown"))}


def _speed(device: str, call: Caller = _at_once) -> dict[str, float | None]:
    """Measured here, and on a Linux CPU also in a process of its own that is left as Python starts it."""

    def best(measure: Callable[..., float], *args: int) -> float:
        return max(call(partial(measure, *args, seconds=_TURN_SECONDS)) for _ in range(_TURNS))

    if device == "gpu" or sys.platform != "linux":
        gflops = best(cpu.measure_gflops, 2048)
        return {"gflops": gflops, "write_gb_per_s": None, "plain_gflops": None, "plain_write_gb_per_s": None}
    plain = subprocess.run([sys.executable, "-c", _PLAIN_SPEED], capture_output=True, text=True, check=False)
    numbers = [float(number) for number in plain.stdout.split()] if plain.returncode == 0 else [None, None]
    return {
        "gflops": best(cpu.measure_gflops),
        "write_gb_per_s": best(cpu.measure_write_speed),
        "plain_gflops": numbers[0],
        "plain_write_gb_per_s": numbers[1],
    }


def _tuning() -> dict[str, Any]:
    """How much `condconv-mlx tune` has measured on this device with this version of MLX."""
    from condconv_mlx.functional import tuned

    here = tuned.place()
    return {"file": str(tuned.path()), "cases": sum(where == here for where, _ in tuned.read())}


def _datasets() -> dict[str, str | None]:
    """Where each data set lies on this machine."""
    from condconv_mlx.data import FILES, cache_dir

    places = {name: files.place(cache_dir()) for name, files in FILES.items()}
    return {name: str(place) if place else None for name, place in places.items()}


def _weights() -> list[str]:
    """Names of the shipped weights; `condconv_mlx.list_weights` would import MLX."""
    spec = find_spec("condconv_mlx.weights")
    chosen = os.environ.get("CONDCONV_MLX_WEIGHTS")
    folders = [chosen] if chosen else (spec and spec.submodule_search_locations) or []
    return sorted(path.stem for folder in folders for path in Path(folder).glob("[!.]*.safetensors"))
