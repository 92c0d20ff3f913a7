"""One side's training throughput in a process of its own, as users get it; torch without our settings.

Run as `python -m condconv_mlx.bench.alone condconv|timm THREADS cpu|gpu`, it prints images a second.
"""

import os
import subprocess
import sys

from condconv_mlx.bench.cases import TrainingCase
from condconv_mlx.bench.timing import Effort, Work, median_times

STEPS = Effort(seconds=5.0, least=7)


def images_per_second(side: str, threads: int, on_gpu: bool) -> float:
    """Measure a side, `"condconv"` or `"timm"`, in a new process; `OSError` with its last words if it fails."""
    command = [sys.executable, "-m", __name__, side, str(threads), "gpu" if on_gpu else "cpu"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["nothing"]
        raise OSError(f"training of {side} alone ended with status {done.returncode}: {words[-1]}")
    return float(done.stdout)


def main(side: str, threads: str, device: str) -> float:
    """Images a second of a side in this process."""
    case = TrainingCase()
    step: Work
    if side == "condconv":
        from condconv_mlx.cpu import tune_process

        # First of all: OpenBLAS comes before MLX or not at all.
        tune_process()
        from condconv_mlx.bench.steps import condconv_step

        step = condconv_step(case)
    else:
        from condconv_mlx.bench.peers import load_peer

        peer = load_peer(int(threads), device == "gpu", shared=False)
        assert peer is not None, "the process that started this one has timm"
        step = peer.training_step(case)
    return 1e3 * case.batch / median_times({side: step}, STEPS)[side]


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
