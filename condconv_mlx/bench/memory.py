"""Peak memory of a training step of condconv_small, beside its static twin's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.bench.cases import EXPERTS
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.steps import training_step
from condconv_mlx.layers import CondConv2d, CondLinear
from condconv_mlx.models import create_model

BATCH = 128
SIZE = 32
STEPS = 3  # the order of evaluation, and with it the peak, may differ a little from step to step


@dataclass(frozen=True)
class MemoryRow:
    """What one network takes.

    Attributes:
        experts: of each layer; None is the static twin.
        peak_bytes: the most that MLX held at a time in a few steps, parameters and optimiser included.
        mixed_bytes: of the kernels that are mixed for the batch, all layers together.
    """

    experts: int | None
    peak_bytes: int
    mixed_bytes: int


def measure_memory(batch: int = BATCH, experts: int = EXPERTS, **options: Any) -> Iterator[MemoryRow]:
    """A row for the static twin, then one with experts; `options` go to `create_model`."""
    for count in (None, experts):
        model = create_model("condconv_small", num_experts=count, **options)
        images = mx.random.normal((batch, SIZE, SIZE, model.config["in_channels"]))
        step = training_step(model, images, mx.zeros((batch,), dtype=mx.int32))
        step()
        mx.clear_cache()
        mx.reset_peak_memory()
        for _ in range(STEPS):
            step()
        yield MemoryRow(count, mx.get_peak_memory(), batch * mixed_bytes(model))


def mixed_bytes(model: nn.Module) -> int:
    """Bytes of the kernels that are mixed for one example."""
    layers = [module for module in model.modules() if isinstance(module, CondConv2d | CondLinear)]
    return sum(layer.weight.nbytes // layer.weight.shape[0] for layer in layers)


def memory_findings(rows: Sequence[MemoryRow]) -> list[Finding]:
    """The peak, in megabytes, beside what is allowed."""
    return [Finding("Peak memory of a step", rows[1].peak_bytes / 1e6, allowance(rows) / 1e6, "MB")]


def allowance(rows: Sequence[MemoryRow]) -> float:
    """Bytes: the static twin's peak, the mixed kernels and their gradients, and a quarter on top."""
    static, conditional = rows
    return 1.25 * (static.peak_bytes + 2 * conditional.mixed_bytes)
