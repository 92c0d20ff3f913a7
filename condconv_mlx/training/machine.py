"""A run as a guest on the user's machine."""

import os
import shutil
import subprocess
import sys
import time

import mlx.core as mx

NICENESS = 10


def limit_cache(gigabytes: float | None) -> int:
    """Limit the memory that MLX keeps for reuse after arrays are gone; without limit, it keeps nearly all there is.

    Args:
        gigabytes: 10⁹ bytes; None is a quarter of what the device has. MLX on a CPU does not say how much that is, and
            keeps its own limit.

    Returns:
        The limit in bytes, 0 where it is MLX's own.
    """
    if gigabytes is None:
        memory = mx.device_info().get("memory_size")
        if not isinstance(memory, int):
            return 0
        limit = memory // 4
    else:
        limit = round(gigabytes * 1e9)
    mx.set_cache_limit(limit)
    return limit


def keep_awake() -> subprocess.Popen | None:
    """Keep a Mac from sleeping, on battery too, as long as this process lives; elsewhere nothing."""
    caffeinate = shutil.which("caffeinate") if sys.platform == "darwin" else None
    if caffeinate is None:
        return None
    return subprocess.Popen([caffeinate, "-i", "-w", str(os.getpid())], stdin=subprocess.DEVNULL)


def step_back() -> None:
    """Let other programs have the processor first."""
    os.nice(NICENESS)


def rest(share: float, worked: float) -> None:
    """Leave the device to others after `worked` seconds, for such a time that it is `share` of both together."""
    if share:
        time.sleep(worked * share / (1 - share))
