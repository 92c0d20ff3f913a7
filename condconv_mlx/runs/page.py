"""Training runs as one HTML page: their settings, and their curves overlaid."""

from collections.abc import Sequence

from condconv_mlx.report import Chart, document, drawn, table
from condconv_mlx.runs.charts import RunChart, experts, health, learning, routers
from condconv_mlx.runs.finding import Run, differing, shown


def page(runs: Sequence[Run]) -> str:
    """The page. Of one run it also shows how each router used its experts, epoch by epoch."""
    sections = [table(_overview(runs))]
    differ = differing(runs)
    if differ:
        rows = [("settings", *(run.name for run in runs)), *((name, *map(shown, row)) for name, row in differ.items())]
        sections.append(f"<h2>Settings that differ</h2>{table(rows)}")
    charts = [*learning(runs), *health(runs)]
    if charts:
        every = drawn([_titled(chart) for chart in charts], script=True)
        sections.append(f"<section id=curves><h2>Curves</h2>{every}</section>")
    if charts and len(runs) == 1:
        sections += [drawn([_titled(experts(runs[0], router))], script=False) for router in routers(runs[0])]
    return document("Training runs", "".join(sections))


def _overview(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("run", "state", "network", "data", "epochs", "held out", "test")]
    for run in runs:
        accuracies = ["" if share is None else f"{share:.2%}" for share in (run.held_out_accuracy, run.test_accuracy)]
        rows.append((run.name, run.status.state, run.network, str(run.settings["data"]), run.epochs, *accuracies))
    return rows


def _titled(chart: RunChart) -> Chart:
    return f"{chart.title}. {chart.help}" if chart.help else chart.title, chart.figure
