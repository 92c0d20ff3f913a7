"""The measurements as one HTML page that needs nothing beside itself."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from condconv_mlx.bench import text
from condconv_mlx.bench.cases import CONDITIONAL
from condconv_mlx.bench.experts import ExpertRow
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.layers import LayerRow
from condconv_mlx.bench.machine import Machine
from condconv_mlx.bench.measure import Result
from condconv_mlx.bench.memory import MemoryRow, allowance
from condconv_mlx.bench.network import NetworkRow
from condconv_mlx.bench.recipes import RecipeRow
from condconv_mlx.bench.training import TrainingRow
from condconv_mlx.charts.bench import amounts, expert_costs, relative_times
from condconv_mlx.files import atomic_file
from condconv_mlx.report import Chart, described, document, drawn, plain, table

SHOWN = 0.01  # of a step, for a part to have a bar
_ABOUT = {
    "layers": "Left of the line at 1 a layer is faster than the reference; none should be right of the dotted line.",
    "experts": "Mixing kernels takes one convolution, however many experts; mixing outputs takes one for each.",
    "training": "The same small network, images, optimiser and number of threads. Longer is faster.",
    "recipes": "As the shipped weights were trained, but on random images of their shape, with input and augmentation. "
    "Layers are measured one by one; the rest is what they leave of the step, such as sums and the loss.",
    "network": "Below the whole, the kinds of layers, each layer waited for; in sum they take longer than the whole.",
    "memory": "The allowance is the static twin's peak, the mixed kernels and their gradients, and a quarter on top.",
}
_HEADINGS = {
    "layers": "Layers",
    "experts": "Number of experts",
    "training": "Training",
    "recipes": "Training of the shipped networks",
    "network": "One image through a network",
    "memory": "Memory",
}


def write_page(path: Path, machine: Machine, results: Mapping[str, Result]) -> None:
    """Write the page; a page that was there stays whole until the new one is."""
    with atomic_file(path) as file:
        file.write(page(machine, results).encode())


def page(machine: Machine, results: Mapping[str, Result]) -> str:
    """The page: the machine, then each section with its charts, what they come to, and the numbers."""
    sections: list[str] = []
    script = True
    for name, result in results.items():
        figures = _CHARTS[name](result.rows)
        charts = drawn(figures, script)
        script &= not figures
        sections.append(
            f"<section><h2>{_HEADINGS[name]}</h2><p>{_ABOUT[name]}</p>{charts}"
            f"{_findings(result.findings)}<details><summary>{plain(text.TITLES[name])}</summary>"
            f"{table(text.table(name, result.rows))}</details></section>"
        )
    return document("What CondConv costs", described(text.machine_rows(machine)) + "".join(sections))


def _layers(rows: Sequence[LayerRow]) -> list[Chart]:
    names = [(row.shape.convolution, row.shape.images) for row in rows]
    charts = []
    for title, part in (("Forward", "forward_ms"), ("Forward and backward", "forward_backward_ms")):
        measured = getattr(rows[0], part)
        times = {
            series: [getattr(row, part)[name] for row in rows] for name, series in _SERIES.items() if name in measured
        }
        charts.append((title, relative_times(names, times, _SERIES["static"], 2.0, _SERIES["condconv"])))
    return charts


def _experts(rows: Sequence[ExpertRow]) -> list[Chart]:
    charts = []
    for backward in (False, True):
        chosen = [row for row in rows if row.backward == backward]
        costs = {text.NAMES[name]: [row.ms[name] for row in chosen] for name in chosen[0].ms}
        title = f"{chosen[0].shape}: {'forward and backward' if backward else 'forward'}"
        figure = expert_costs([row.experts for row in chosen], costs, text.NAMES["kernels"])
        charts.append((title, figure))
    return charts


def _training(rows: Sequence[TrainingRow]) -> list[Chart]:
    bars = [(row.setting, _SERIES[name], value) for row in rows for name, value in row.images_per_second.items()]
    return [("Throughput", amounts(bars, "images a second", _SERIES["condconv"]))]


def _recipes(rows: Sequence[RecipeRow]) -> list[Chart]:
    if not rows:
        return []
    rates = [("", row.weights, row.images_per_second) for row in rows]
    times = [
        (row.weights, part, ms)
        for row in rows
        for part, ms, _ in text.parts(row)
        if ms > SHOWN * (row.input_ms + row.step_ms)
    ]
    return [
        ("Throughput", amounts(rates, "images a second", rows[0].weights)),
        (f"Where the time of a step goes, from {SHOWN:.0%} on", amounts(times, "milliseconds", CONDITIONAL)),
    ]


def _network(rows: Sequence[NetworkRow]) -> list[Chart]:
    bars = [(row.part, _SERIES[name], value) for row in rows for name, value in row.ms.items()]
    return [("EfficientNet-B0 with 8 experts, 224×224", amounts(bars, "milliseconds", _SERIES["condconv"]))]


def _memory(rows: Sequence[MemoryRow]) -> list[Chart]:
    static, conditional = rows
    bars = [
        ("", "static twin", static.peak_bytes / 1e6),
        (f"{conditional.experts} experts", _SERIES["condconv"], conditional.peak_bytes / 1e6),
    ]
    limit = ("allowed", allowance(rows) / 1e6)
    return [("Peak of a training step", amounts(bars, "megabytes", _SERIES["condconv"], limit))]


_CHARTS: dict[str, Callable[[Sequence[Any]], list[Chart]]] = {
    "layers": _layers,
    "experts": _experts,
    "training": _training,
    "recipes": _recipes,
    "network": _network,
    "memory": _memory,
}
# In this order they get their symbols, the same in each chart.
_SERIES = {
    "static": "mx.conv2d with one kernel",
    "timm": "timm in torch",
    "loop": "a loop of mx.conv2d",
    "condconv": "CondConv",
}


def _findings(findings: Sequence[Finding]) -> str:
    lines = []
    for finding in findings:
        value, target, verdict = finding.shown()
        where = f"<small>{plain(finding.where)}</small>" if finding.where else ""
        lines.append(
            f"<tr><td>{plain(finding.name)}{where}</td><td>{value}</td><td>{target}</td>"
            f"<td class={verdict}>{verdict}</td></tr>"
        )
    titles = "<tr><th></th><th>measured</th><th>target</th><th></th></tr>"
    return f"<div class=wide><table class=findings>{titles}{''.join(lines)}</table></div>" if findings else ""
