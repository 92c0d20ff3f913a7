"""The measurements as lines of text."""

from collections.abc import Callable, Sequence
from typing import Any

from condconv_mlx.bench.cases import EXPERTS, TrainingCase
from condconv_mlx.bench.experts import ExpertRow
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.layers import LayerRow
from condconv_mlx.bench.machine import Machine
from condconv_mlx.bench.memory import MemoryRow, allowance
from condconv_mlx.bench.network import NetworkRow
from condconv_mlx.bench.recipes import RecipeRow
from condconv_mlx.bench.training import TrainingRow
from condconv_mlx.tables import aligned

Row = tuple[str, ...]
NAMES = {
    "static": "static",
    "loop": "loop",
    "condconv": "CondConv",
    "timm": "timm",
    "kernels": "mixing kernels",
    "outputs": "mixing outputs",
    "product": "product alone",
}
TITLES = {
    "layers": f"Layers: milliseconds, {EXPERTS} experts, float32",
    "experts": "Experts: milliseconds by their number",
    "training": f"Training: images a second, {TrainingCase.experts} experts, batch {TrainingCase.batch}",
    "recipes": "Recipes: training of the shipped networks on random images of the true shape, milliseconds a step",
    "network": "Network: milliseconds for one image of 224×224 through EfficientNet-B0 with 8 experts",
    "memory": "Memory: peak of a training step of condconv_small, megabytes",
}


def machine_rows(machine: Machine) -> list[Row]:
    """The header, a name and a value each."""
    busy = "" if machine.load is None else f", load {machine.load:.1f} at the start"
    kept = ", memory kept" if machine.memory_kept else ""
    parts = (
        ""
        if machine.parts == 1
        else (f"; ours in {machine.parts} parts with one BLAS thread each, `mx.conv2d` with {machine.cores} threads")
    )
    return [
        ("Date", machine.date),
        ("System", machine.system),
        ("Processor", f"{machine.processor}, {machine.cores} cores{busy}"),
        ("MLX", f"{machine.mlx} on {machine.device}"),
        ("CPU", f"{machine.blas}{kept}{parts}"),
        ("Strategies", f"{machine.tuned} cases tuned on this machine, else defaults" if machine.tuned else "defaults"),
        ("Beside", machine.peer or "torch and timm: not installed or not asked for"),
        ("condconv-mlx", machine.version),
    ]


def section(name: str, rows: Sequence[Any], findings: Sequence[Finding]) -> str:
    """A title, the table, and what it comes to."""
    lines = [TITLES[name], *aligned(table(name, rows))]
    for finding, row in zip(findings, aligned(finding_rows(findings)), strict=True):
        lines.append(row + (f"  ({finding.where})" if finding.where else ""))
    return "\n".join(lines)


def table(name: str, rows: Sequence[Any]) -> list[Row]:
    """The titles of the columns, then a row each, of the section `name`."""
    return _TABLES[name](rows)


def finding_rows(findings: Sequence[Finding]) -> list[Row]:
    """Name, value, target and verdict."""
    return [(finding.name, *finding.shown()) for finding in findings]


def _layers(rows: Sequence[LayerRow]) -> list[Row]:
    forward, both = rows[0].forward_ms, rows[0].forward_backward_ms
    titles = ("", *(NAMES[name] for name in forward), *(f"{NAMES[name]} + backward" for name in both))
    return [
        titles,
        *((str(row.shape), *_ms([*row.forward_ms.values(), *row.forward_backward_ms.values()])) for row in rows),
    ]


def _experts(rows: Sequence[ExpertRow]) -> list[Row]:
    titles = ("", "experts", *(NAMES[name] for name in rows[0].ms))
    passes = ("forward", "forward and backward")
    return [
        titles,
        *((f"{row.shape}, {passes[row.backward]}", str(row.experts), *_ms(list(row.ms.values()))) for row in rows),
    ]


def _training(rows: Sequence[TrainingRow]) -> list[Row]:
    titles = ("", *(NAMES[name] for name in rows[0].images_per_second))
    return [titles, *((row.setting, *(f"{value:,.0f}" for value in row.images_per_second.values())) for row in rows)]


def _recipes(rows: Sequence[RecipeRow]) -> list[Row]:
    lines: list[Row] = [("", "all", "forward", "backward", "images a second", "epoch, s")]
    for row in rows:
        (whole,) = _ms([row.input_ms + row.step_ms])
        lines.append((row.weights, whole, "", "", f"{row.images_per_second:,.0f}", f"{row.epoch_seconds:,.1f}"))
        lines += [
            (f"  {part}", *_ms([ms]), *(_ms(list(both)) if both else ("", "")), "", "") for part, ms, both in parts(row)
        ]
    return lines


def parts(row: RecipeRow) -> list[tuple[str, float, tuple[float, float] | None]]:
    """Where a step's time goes: names and milliseconds, and of layers those forward and backward."""
    layers = {kind: (times.forward_ms, times.backward_ms) for kind, times in row.layers.items()}
    found: list[tuple[str, float, tuple[float, float] | None]] = [("input", row.input_ms, None)]
    found += [(kind, sum(both), both) for kind, both in sorted(layers.items(), key=lambda layer: -sum(layer[1]))]
    return [*found, ("optimiser", row.optimiser_ms, None), ("the rest", row.rest_ms, None)]


def _network(rows: Sequence[NetworkRow]) -> list[Row]:
    titles = ("", *(NAMES[name] for name in rows[0].ms))
    return [titles, *((row.part, *_ms(list(row.ms.values()))) for row in rows)]


def _memory(rows: Sequence[MemoryRow]) -> list[Row]:
    static, conditional = rows
    return [
        ("", "static", "CondConv", "allowed", "of it mixed kernels and gradients"),
        ("peak", *(f"{number / 1e6:,.0f}" for number in (static.peak_bytes, conditional.peak_bytes, allowance(rows))))
        + (f"{2e-6 * conditional.mixed_bytes:,.0f}",),
    ]


_TABLES: dict[str, Callable[[Sequence[Any]], list[Row]]] = {
    "layers": _layers,
    "experts": _experts,
    "training": _training,
    "recipes": _recipes,
    "network": _network,
    "memory": _memory,
}


def _ms(values: Sequence[float]) -> list[str]:
    digits = [3 if abs(value) < 1 else 2 if abs(value) < 100 else 0 for value in values]
    return [f"{value:.{places}f}" for value, places in zip(values, digits, strict=True)]
