"""Whether MLX can be imported here, and a sentence that helps when it cannot."""

import platform
import subprocess
import sys

ROSETTA = (
    "this Python is built for Intel (x86-64) and runs under Rosetta, where MLX does not: install Python for "
    "Apple silicon (arm64) and make a new virtual environment with it"
)


class BackendError(ImportError):
    """MLX is missing, or has nothing to compute with; the message says what to install."""


def check() -> None:
    """Import MLX; `BackendError` with what to do if that fails.

    MLX brings Metal on macOS, but on Linux no backend of its own: that is another package, which an extra names.
    """
    try:
        import mlx.core  # noqa: F401
    except ImportError as error:
        raise BackendError(_sentence(error)) from error


def runs_under_rosetta() -> bool:
    """Whether this is a Python for Intel processors, translated by macOS on Apple silicon."""
    if sys.platform != "darwin" or platform.machine() != "x86_64":
        return False
    answer = subprocess.run(["sysctl", "-n", "sysctl.proc_translated"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() == "1"


def _sentence(error: ImportError) -> str:
    if runs_under_rosetta():
        return ROSETTA
    if sys.platform == "linux":
        return (
            f"MLX has no backend to compute with ({error}): install condconv-mlx with the extra [cpu], or [cuda13] or "
            "[cuda12] for an NVIDIA GPU; for MLX alone that is: pip install 'mlx[cpu]'"
        )
    return f"MLX cannot be imported ({error}): it needs macOS 14 or newer on Apple silicon; pip install mlx"
