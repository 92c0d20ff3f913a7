"""The CPU of this process on Linux: a fast BLAS, and memory that is kept. Nothing to do on macOS.

Our commands, app, tests and benchmarks call `tune_process` on start. Importing the library does not, because it changes
the whole process. For a program of your own there is this one call, before anything that imports MLX:

    from condconv_mlx.cpu import tune_process
    tune_process()

It gives OpenBLAS one thread, and our layers then compute in parts on several cores themselves, products and copies
alike. That costs other large products the second core: on two cores of an AMD EPYC, 2048×2048 matrices then take 69 ms
instead of 37, (196, 112) @ (112, 672) 0.13 instead of 0.08. `tune_process(split=False)` leaves OpenBLAS its threads.
"""

import ctypes
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

# Fedora's libopenblas.so.0 has one thread and libopenblasp many; elsewhere the first name has the threads.
_OPENBLAS = ("libopenblasp.so.0", "libopenblas.so.0", "libopenblas.so")
_PACKAGES = {
    "apt": "sudo apt install libopenblas0-pthread",
    "dnf": "sudo dnf install openblas-threads",
    "pacman": "sudo pacman -S openblas",
}
# What OpenBLAS computes with where it does not know the processor, and what it would for its instructions.
_UNKNOWN = "Prescott"
_CORES = {"SkylakeX": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}, "Haswell": {"avx2", "fma"}}
# malloc.h: (parameter, value). One arena, no block too large for the heap, nothing handed back to the kernel.
_MALLOPT = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 2**30), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}
_M_MMAP_MAX = (-4, 0)

# More parts were never tried.
_MOST_PARTS = 4

_status: "CpuStatus | None" = None
_hinted = False


@dataclass(frozen=True)
class CpuStatus:
    """How this process computes on the CPU.

    Attributes:
        platform: system and processor, `"Linux x86_64"`.
        blas: what multiplies matrices, `"OpenBLAS 0.3.21 for Zen"`, `"Accelerate"` or `"reference BLAS bundled with
            MLX"`.
        memory_kept: whether freed memory stays with the process and need not be cleared by the kernel again.
        advice: a sentence for each thing that would make it faster, and how to get it.
        cores: that this process may compute on: the threads OpenBLAS came with, which heeds OPENBLAS_NUM_THREADS (and
            so `train --processes`), or as many as the system allows.
        parts: in how many at once our layers compute what is large, each on a core of its own; 1 is in one piece.
    """

    platform: str
    blas: str
    memory_kept: bool
    advice: list[str] = field(default_factory=list)
    cores: int = 1
    parts: int = 1


def tune_process(split: bool = True) -> CpuStatus:
    """Make MLX fast on the CPU of this process; a second call does nothing.

    On Linux it puts OpenBLAS, if the system has it, in the place of the reference BLAS that MLX bundles (about 20 times
    as fast), and lets glibc keep freed memory (arrays are written about 8 times as fast). Both hold for the whole
    process, and OpenBLAS is only taken before `mlx.core` is first imported. Where OpenBLAS does not know the processor
    and takes it for one without AVX, it is told better, unless OPENBLAS_CORETYPE is set. On macOS, where MLX uses
    Accelerate, and on other C libraries than glibc, what does not apply is left out.

    Args:
        split: whether our layers compute in parts, one for each core up to four, with one thread for OpenBLAS. A
            program whose large products are its own may leave OpenBLAS its threads. How the parts are cut follows from
            shapes and their number alone: with the same number of cores a run repeats to the bit, with another it
            differs by rounding.

    Returns:
        What is in place now, and what would still help.
    """
    global _status
    if _status is None:
        if sys.platform == "linux":
            name = _find_openblas()
            if name and _openblas() is None and "mlx.core" not in sys.modules:
                # Ahead of the BLAS that MLX brings along, for every library loaded from here on.
                _use_newer_instructions(ctypes.CDLL(name, ctypes.RTLD_GLOBAL))
            _status = _describe(memory_kept=_keep_memory(), split=split)
            if _status.parts > 1:
                set_blas_threads(1)
        else:
            _status = _describe(memory_kept=False)
    return _status


def parts() -> int:
    """In how many parts at once to compute what is large: 1 unless `tune_process` saw to it that more pay.

    Where OpenBLAS has several threads, products on several streams wait for each other, up to 7 times as long.
    """
    return _status.parts if _status and _status.parts > 1 and _counter()() == 1 else 1


def set_blas_threads(count: int) -> None:
    """Give OpenBLAS, where it is in use, this many threads from now on, in the whole process."""
    openblas = _openblas()
    if openblas:
        openblas.openblas_set_num_threads(count)


def blas_threads() -> int | None:
    """Threads of OpenBLAS, None where it is not in use."""
    openblas = _openblas()
    return int(openblas.openblas_get_num_threads()) if openblas else None


@cache
def _counter() -> Callable[[], int]:
    """What counts OpenBLAS's threads, found once: each layer asks. MLX's own BLAS has one thread."""
    openblas = _openblas()
    return openblas.openblas_get_num_threads if openblas else lambda: 1


def cpu_status() -> CpuStatus:
    """What is in place now, without changing anything."""
    return _status or _describe(memory_kept=False)


def hint_once() -> None:
    """Say on standard error, once in a process, what would make a slow CPU faster. Silent where a GPU computes."""
    global _hinted
    if _hinted:
        return
    _hinted = True
    import mlx.core as mx

    if mx.default_device() == mx.Device(mx.cpu):
        for sentence in cpu_status().advice:
            print(f"condconv-mlx: {sentence}", file=sys.stderr)


def measure_gflops(size: int = 1024, seconds: float = 0.3) -> float:
    """Billions of float32 operations a second in products of two (size, size) matrices, on MLX's default device.

    Of as many products at once as our layers compute parts.
    """
    import mlx.core as mx

    from condconv_mlx.functional.streams import at_once
    from condconv_mlx.functional.streams import parts as parts_for

    a, count = mx.random.normal((size, size)), parts_for(1, 0)

    def products() -> None:
        mx.eval(at_once([lambda: a @ a] * count))

    mx.eval(a)
    products()
    return 2e-9 * count * size**3 / _best_time(products, seconds)


def measure_write_speed(megabytes: int = 64, seconds: float = 0.3) -> float:
    """Billions of bytes a second at which MLX writes a new array of this size, on its default device."""
    import mlx.core as mx

    a = mx.zeros((megabytes, 2**18))
    mx.eval(a)
    return 1e-9 * a.nbytes / _best_time(lambda: mx.eval(a + 1), seconds)


def _best_time(work: Callable[[], None], seconds: float) -> float:
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best


def _openblas() -> ctypes.CDLL | None:
    """An OpenBLAS that the whole process sees, as MLX will."""
    try:
        process = ctypes.CDLL(None)
    except OSError:
        return None
    return process if hasattr(process, "openblas_get_num_threads") else None


def _openblas_version() -> str | None:
    """`"OpenBLAS 0.3.21 for Haswell"` if the whole process sees one: what it is, and whose instructions it uses."""
    openblas = _openblas()
    if openblas is None:
        return None
    openblas.openblas_get_config.restype = ctypes.c_char_p
    version = " ".join(openblas.openblas_get_config().decode().split()[:2])
    return f"{version} for {_core(openblas)}"


def _find_openblas() -> str | None:
    """The name of a library on this system that has what MLX calls."""
    for name in _OPENBLAS:
        try:
            if hasattr(ctypes.CDLL(name), "cblas_sgemm"):
                return name
        except OSError:
            continue
    return None


def _use_newer_instructions(openblas: ctypes.CDLL) -> None:
    """Let OpenBLAS use the processor's AVX where it takes the processor for one that has none. Before any product.

    Up to 0.3.24 it does so with all of Intel's that are newer than itself (OpenBLAS issue 4267), such as the 0.3.21 of
    Debian 12 with a Core of the 13th generation.
    """
    if "OPENBLAS_CORETYPE" in os.environ or _core(openblas) != _UNKNOWN:
        return
    able = _instructions()
    core = next((name for name, needed in _CORES.items() if needed <= able), None)
    if core and hasattr(openblas, "gotoblas_dynamic_init") and hasattr(openblas, "gotoblas_dynamic_quit"):
        os.environ["OPENBLAS_CORETYPE"] = core
        openblas.gotoblas_dynamic_quit()
        openblas.gotoblas_dynamic_init()
        del os.environ["OPENBLAS_CORETYPE"]


def _core(openblas: ctypes.CDLL) -> str:
    """Whose instructions OpenBLAS uses."""
    openblas.openblas_get_corename.restype = ctypes.c_char_p
    name: bytes = openblas.openblas_get_corename()
    return name.decode()


def _instructions() -> set[str]:
    """What the processor can do, in the names of Linux; empty where that is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _keep_memory() -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # Older versions of glibc refuse so high a threshold, which then does not matter: M_MMAP_MAX alone decides.
    for parameter, value in _MALLOPT.values():
        mallopt(parameter, value)
    return bool(mallopt(*_M_MMAP_MAX))


def _bundles_reference_blas() -> bool:
    """Whether the MLX wheel brings its own libblas. A build from source or conda is linked to a BLAS of the system."""
    for distribution in ("mlx-cpu", "mlx-cuda-12", "mlx-cuda-13"):
        try:
            files = metadata.files(distribution) or []
        except metadata.PackageNotFoundError:
            continue
        if any(file.name.startswith("libblas") for file in files):
            return True
    return False


def _describe(memory_kept: bool, split: bool = False) -> CpuStatus:
    where = f"{platform.system()} {platform.machine()}"
    if sys.platform != "linux":
        return CpuStatus(where, "Accelerate", memory_kept, cores=os.cpu_count() or 1)
    openblas = _openblas_version()
    allowed = len(os.sched_getaffinity(0))
    if openblas:
        cores = min(allowed, blas_threads() or 1)
        return CpuStatus(where, openblas, memory_kept, cores=cores, parts=min(cores, _MOST_PARTS) if split else 1)
    if not _bundles_reference_blas():
        return CpuStatus(where, "the BLAS that MLX was built with", memory_kept, cores=allowed)
    if _find_openblas():
        advice = "OpenBLAS is here but MLX does not use it: call tune_process() before anything imports MLX."
    else:
        ways = [command for tool, command in _PACKAGES.items() if shutil.which(tool)] or list(_PACKAGES.values())
        advice = f"matrix products on this CPU would be about 20 times as fast with OpenBLAS: {' or '.join(ways)}."
    # It has one thread as it is.
    parts = min(allowed, _MOST_PARTS) if split else 1
    return CpuStatus(where, "reference BLAS bundled with MLX", memory_kept, [advice], allowed, parts)
