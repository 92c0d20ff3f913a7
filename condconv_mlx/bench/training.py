"""Training throughput of a small network, beside the same network in torch with timm's layer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from condconv_mlx.bench import alone
from condconv_mlx.bench.cases import TrainingCase
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.peers import Peer
from condconv_mlx.bench.steps import condconv_step
from condconv_mlx.bench.timing import Effort, median_times
from condconv_mlx.cpu import cpu_status

SHARED = "in one process"
ALONE = "each in a process of its own"


@dataclass(frozen=True)
class TrainingRow:
    """Images a second by name, `"condconv"` and, if it is here, `"timm"`.

    Attributes:
        setting: `SHARED`, both with what `tune_process` did to this process; or `ALONE`, torch as it is installed.
    """

    setting: str
    images_per_second: dict[str, float]


def measure_training(
    peer: Peer | None,
    case: TrainingCase | None = None,
    effort: Effort = alone.STEPS,
    apart: Callable[[str], float] | None = None,
) -> Iterator[TrainingRow]:
    """A row for both sides in this process and, with a peer, one for each side in its own (`apart`)."""
    case = case or TrainingCase()
    works = {"condconv": condconv_step(case)}
    if peer:
        works["timm"] = peer.training_step(case)
    times = median_times(works, effort)
    yield TrainingRow(SHARED, {name: 1e3 * case.batch / ms for name, ms in times.items()})
    if peer:
        on_gpu = mx.default_device() != mx.cpu
        apart = apart or partial(alone.images_per_second, threads=cpu_status().cores, on_gpu=on_gpu)
        yield TrainingRow(ALONE, {name: apart(name) for name in works})


def training_findings(rows: Sequence[TrainingRow]) -> list[Finding]:
    """How many times as fast as torch we train."""
    findings = []
    for row in rows:
        if "timm" in row.images_per_second:
            ratio = row.images_per_second["condconv"] / row.images_per_second["timm"]
            target = 1.2 if row.setting == SHARED else 3.0
            findings.append(Finding(f"Images a second / torch's, {row.setting}", ratio, target, at_least=True))
    return findings
