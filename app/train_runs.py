"""Training runs while they go on and afterwards: where they stand, their curves, and what can be done with them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from urllib.parse import quote, unquote

import streamlit as st

from condconv_mlx.app import address, models
from condconv_mlx.app.parts import escape, rounded, table, titled_chart
from condconv_mlx.app.train_card import STATES, card, images
from condconv_mlx.runs.charts import RunChart, experts, health, learning, pace, routers
from condconv_mlx.runs.finding import SETTINGS, Run, differing, find_runs, shown

# More than these have no colours of their own.
MOST = 7
# Seconds between two looks at the log files.
EVERY, IDLE = 2, 10
LOOKS = {"learning": "Learning", "routing": "Routing", "pace": "Pace"}


def found() -> list[Run]:
    """All runs, those under way first, then the latest. Each has a name of its own."""
    runs: dict[str, Run] = {}
    for folder in models.run_folders():
        if folder.is_dir():
            for run in find_runs(folder):
                runs.setdefault(str(run.path), run)
    # Those under way keep their places, whichever wrote last.
    several = sorted(runs.values(), key=lambda run: run.name if run.under_way else "")
    several.sort(key=lambda run: (not run.under_way, 0.0 if run.under_way else -run.changed.timestamp()))
    names = [run.name for run in several]
    return [
        run if names.count(run.name) == 1 else replace(run, name=f"{run.name} in {run.path.parent}") for run in several
    ]


def section(busy: bool) -> None:
    """The runs, looked at again and again: a fragment, which runs `EVERY` seconds if one is under way (`busy`)."""
    runs = found()
    if any(run.under_way for run in runs) != busy:
        # From now on, more often or less.
        st.rerun()
    if problem := st.session_state.pop("run problem", None):
        st.error(escape(problem))
    if not runs:
        return
    chosen = choose(runs)
    for run in chosen:
        card(run, runs)
    if chosen:
        compare(chosen)
    if len(runs) > 1:
        overview(runs)


def choose(runs: list[Run]) -> list[Run]:
    """The runs to look at: those in the address, else the first."""
    by_path = {str(run.path): run for run in runs}
    if "runs" not in st.session_state:
        wanted = [unquote(path) for path in (address.value("runs") or "").split(",")]
        st.session_state["runs"] = [path for path in wanted if path in by_path][:MOST] or list(by_path)[:1]
    else:
        st.session_state["runs"] = [path for path in st.session_state["runs"] if path in by_path]

    paths = st.multiselect(
        "Runs to look at",
        list(by_path),
        # Without its state: the browser says by their labels which are chosen, and a changed one would be lost.
        format_func=lambda path: by_path[path].name,
        key="runs",
        max_selections=MOST,
        placeholder="Choose runs",
    )
    address.put(runs=",".join(quote(path, safe="/") for path in paths) or None)
    return [by_path[path] for path in paths]


def compare(runs: list[Run]) -> None:
    """Their curves, overlaid, and the settings in which they differ."""
    # Of one that has not begun, only some are known.
    begun = [run for run in runs if (run.path / SETTINGS).exists()]
    if len(begun) > 1:
        if differ := differing(begun):
            st.markdown("#### Settings that differ")
            rows = [[plainly(name), *map(shown, row)] for name, row in differ.items()]
            table(["setting", *(run.name for run in begun)], rows)
        else:
            st.caption("All settings are the same.")
    if not any(run.log.steps or run.log.epochs for run in runs):
        return
    look = address.remember("look", list(LOOKS), "learning")
    st.segmented_control(
        "Look at", list(LOOKS), format_func=LOOKS.__getitem__, required=True, key="look", label_visibility="collapsed"
    )
    DRAW[look](runs)


def draw_learning(runs: list[Run]) -> None:
    """Loss and accuracy."""
    columns(learning(runs))


def draw_routing(runs: list[Run]) -> None:
    """What the routers do, and of a single run which experts they used."""
    charts = health(runs)
    if not charts:
        routed = [run for run in runs if run.settings.get("model.num_experts") is not None]
        st.info(
            "The routing is measured on held-out images after each epoch: look again when the first is over."
            if routed
            else "A static network has nothing to route."
        )
        return
    columns(charts)
    if len(runs) > 1:
        st.caption("Of each run its last router, which tells most. Choose a single run to see all.")
        return
    names = routers(runs[0])
    if len(names) > 4:
        router = address.remember("router", names, names[-1])
        st.selectbox("Router", names, key="router")
        names = [router]
    columns([experts(runs[0], name) for name in names], [f"experts-{name}" for name in names])


def draw_pace(runs: list[Run]) -> None:
    """Learning rate, throughput, memory."""
    columns(pace(runs))


DRAW: dict[str, Callable[[list[Run]], None]] = {"learning": draw_learning, "routing": draw_routing, "pace": draw_pace}


def columns(charts: list[RunChart], names: list[str] | None = None) -> None:
    """Charts side by side, two in a row."""
    for start in range(0, len(charts), 2):
        for place, number in zip(st.columns(2, gap="medium"), range(start, len(charts)), strict=False):
            chart = charts[number]
            with place:
                titled_chart(
                    chart.title,
                    chart.figure,
                    names[number] if names else chart.name,
                    f"{chart.title}, by epoch",
                    partial(getattr, chart, "table"),
                    help=chart.help or None,
                )


def overview(runs: list[Run]) -> None:
    """All runs, with their results."""
    header = ["run", "state", "network", "images", "epochs", "held out", "test", "changed"]
    rows = [
        [
            run.name,
            STATES[run.status.state][0],
            run.network,
            images(run),
            run.epochs,
            *("" if share is None else rounded(share, 1) for share in (run.held_out_accuracy, run.test_accuracy)),
            f"{run.changed:%Y-%m-%d %H:%M}",
        ]
        for run in runs
    ]
    with st.expander(f"All {len(runs)} runs", key="all runs"):
        table(header, rows)


def plainly(setting: str) -> str:
    """A setting by its last word."""
    return setting.removeprefix("training.").removeprefix("model.").replace("_", " ")
