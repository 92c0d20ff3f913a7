"""The measurements as one HTML page that needs nothing beside itself."""

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from condconv_mlx.bench import text
from condconv_mlx.bench.experts import ExpertRow
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.layers import LayerRow
from condconv_mlx.bench.machine import Machine
from condconv_mlx.bench.measure import Result
from condconv_mlx.bench.memory import MemoryRow, allowance
from condconv_mlx.bench.network import NetworkRow
from condconv_mlx.bench.training import TrainingRow
from condconv_mlx.charts.bench import amounts, expert_costs, relative_times
from condconv_mlx.files import atomic_file

# Plotly writes colours into each element, so only !important makes its words follow the page.
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #212529; --soft: #5c636a; --line: #e3e6e9; --accent: #4263eb }
@media (prefers-color-scheme: dark) {
  :root { --page: #121417; --ink: #e9ecef; --soft: #9aa2aa; --line: #2b3036; --accent: #8199f8 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1200px; padding: 24px 20px 64px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 26px; margin: 0 0 12px }
h2 { font-size: 19px; margin: 44px 0 2px }
h3 { font-size: 14px; font-weight: 600; margin: 14px 0 6px }
p { margin: 0 0 8px; color: var(--soft) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 16px; margin: 0; font-size: 13px }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
.charts { max-width: 760px }
.charts.two { max-width: none }
.charts > div { min-width: 0 }
@media (min-width: 900px) { .charts.two { display: grid; grid-template-columns: 1fr 1fr; gap: 32px } }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 8px 0 }
th, td { padding: 3px 0 3px 20px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { padding-left: 0; text-align: left }
th { font-weight: 500; color: var(--soft) }
.findings td:first-child { white-space: normal }
.findings .met { color: var(--accent) }
small { color: var(--soft); display: block }
summary { cursor: pointer; color: var(--soft); font-size: 13px }
.js-plotly-plot text { fill: var(--ink) !important; font-family: inherit !important }
.js-plotly-plot .hoverlayer path { fill: var(--page) !important; stroke: var(--soft) !important }
"""
_ABOUT = {
    "layers": "Left of the line at 1 a layer is faster than the reference; none should be right of the dotted line.",
    "experts": "Mixing kernels takes one convolution, however many experts; mixing outputs takes one for each.",
    "training": "The same small network, images, optimiser and number of threads. Longer is faster.",
    "network": "Below the whole, the kinds of layers, each layer waited for; in sum they take longer than the whole.",
    "memory": "The allowance is the static twin's peak, the mixed kernels and their gradients, and a quarter on top.",
}
_HEADINGS = {
    "layers": "Layers",
    "experts": "Number of experts",
    "training": "Training",
    "network": "One image through a network",
    "memory": "Memory",
}
Chart = tuple[str, Any]


def write_page(path: Path, machine: Machine, results: Mapping[str, Result]) -> None:
    """Write the page; a page that was there stays whole until the new one is."""
    with atomic_file(path) as file:
        file.write(page(machine, results).encode())


def page(machine: Machine, results: Mapping[str, Result]) -> str:
    """The page: the machine, then each section with its charts, what they come to, and the numbers."""
    rows = "".join(f"<dt>{_plain(name)}</dt><dd>{_plain(value)}</dd>" for name, value in text.machine_rows(machine))
    sections, script = [], True
    for name, result in results.items():
        charts = []
        for title, figure in _CHARTS[name](result.rows):
            drawn = figure.to_html(
                full_html=False,
                # Plotly itself comes along once, with the first chart.
                include_plotlyjs=script,
                config={"displayModeBar": False, "responsive": True},
                default_width="100%",
                default_height=f"{figure.layout.height}px",
            )
            charts.append(f"<div><h3>{_plain(title)}</h3>{drawn}</div>")
            script = False
        kind = "charts two" if len(charts) == 2 else "charts"
        sections.append(
            f"<section><h2>{_HEADINGS[name]}</h2><p>{_ABOUT[name]}</p><div class='{kind}'>{''.join(charts)}</div>"
            f"{_findings(result.findings)}<details><summary>{_plain(text.TITLES[name])}</summary>"
            f"{_table(text.table(name, result.rows))}</details></section>"
        )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>What CondConv costs</title><style>{_STYLE}</style></head><body>"
        f"<h1>What CondConv costs</h1><dl>{rows}</dl>{''.join(sections)}</body></html>\n"
    )


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
        where = f"<small>{_plain(finding.where)}</small>" if finding.where else ""
        lines.append(
            f"<tr><td>{_plain(finding.name)}{where}</td><td>{value}</td><td>{target}</td>"
            f"<td class={verdict}>{verdict}</td></tr>"
        )
    titles = "<tr><th></th><th>measured</th><th>target</th><th></th></tr>"
    return f"<div class=wide><table class=findings>{titles}{''.join(lines)}</table></div>" if findings else ""


def _table(rows: Sequence[text.Row]) -> str:
    head, *body = ("".join(f"<td>{_plain(cell)}</td>" for cell in row) for row in rows)
    titles = head.replace("td>", "th>")
    return f"<div class=wide><table><tr>{titles}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table></div>"


def _plain(words: str) -> str:
    return html.escape(words, quote=False)
