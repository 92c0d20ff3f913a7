"""What two models cost: multiply-adds, parameters, and time on this machine."""

import time
from functools import cache, partial
from statistics import median

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import address, engine
from condconv_mlx.app.frame import View
from condconv_mlx.app.models import Card
from condconv_mlx.app.parts import escape, titled_chart
from condconv_mlx.bench.machine import describe_machine
from condconv_mlx.complexity import KINDS, Cost, by_kind
from condconv_mlx.explain import in_turns, passes

Times = list[tuple[float, float]]
BATCHES = (1, 4, 16, 64)
# Of a measurement: rounds go on for so many seconds, but there are at least and at most so many.
SECONDS, LEAST, MOST = 3.0, 5, 100
# Between two looks at the bar, which the browser draws with the same processor.
PAUSE = 0.2
# Multiply-adds of a round, up to which it is measured without being asked: some milliseconds on any machine.
QUICK = 10**8


def costs(card: Card) -> dict[str, Cost]:
    """`complexity.by_kind` of a model, for images as it takes them."""
    return engine.call(card.name, by_kind, (card.size, card.size, card.channels))


def show_costs(first: Card, second: Card, names: tuple[str, str]) -> None:
    """Multiply-adds and parameters of both, by kinds of layers."""
    found = costs(first), costs(second)
    sizes = [f"{card.size} × {card.size}" for card in (first, second)]
    at = sizes[0] if sizes[0] == sizes[1] else f"{sizes[0]} and {sizes[1]}"
    helps = (
        f"For one picture of {at} pixels. Mixing kernels is what CondConv adds: experts × parameters of a kernel.",
        "Each expert is a kernel of its own, so that parameters grow with the experts.",
    )
    parts = (
        {kind: [one[kind].madds for one in found] for kind in KINDS},
        {kind: [one[kind].params for one in found] for kind in KINDS},
    )
    columns = st.columns(2, gap="medium")
    for column, quantity, by, help in zip(columns, ("multiply-adds", "parameters"), parts, helps, strict=True):
        with column:
            titled_chart(
                quantity.capitalize(),
                charts.cost_bars(names, by, quantity),
                quantity,
                f"{quantity} of {names[0]} and {names[1]}, by kinds of layers",
                partial(cost_rows, names, by),
                help=help,
            )
            totals = [sum(values) for values in zip(*by.values(), strict=True)]
            st.markdown(f"{escape(names[0])}: **{ratio(*totals)}** the {quantity} of {escape(names[1])}.")


def cost_rows(names: tuple[str, str], parts: dict[str, list[int]]) -> tuple[list[str], list[list[str | int]]]:
    """The bars as a table."""
    return ["kind", *names], [[kind, *values] for kind, values in parts.items()]


def ratio(first: float, second: float) -> str:
    """1.09 times."""
    return f"{first / second:.2f} times"


@st.fragment
def show_times(view: View, other: View, names: tuple[str, str]) -> None:
    """How long both take here, measured in turns."""
    most = min(engine.batches(np.broadcast_to(one.image, (1, *one.image.shape[1:])))[0].stop for one in (view, other))
    options = [f"{batch}" for batch in BATCHES if batch <= most]
    batch = int(address.remember("batch", options, options[0]))
    key = (*(one.card.name for one in (view, other)), *(stamp(one.card) for one in (view, other)), batch)
    work = batch * sum(cost.madds for one in (view, other) for cost in costs(one.card).values())
    asked = st.session_state.pop("measure now", False)
    if asked or (key not in measurements() and work <= QUICK):
        measurements()[key] = measure(view, other, batch)
    taken = measurements().get(key)
    if taken is None:
        st.markdown("#### Time on this machine")
        st.markdown("Not measured yet.")
    else:
        show_taken(names, taken, batch)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Pictures at once",
            options,
            required=True,
            key="batch",
            width="content",
        )
        st.button(
            "Measure" if taken is None else "Measure again",
            on_click=lambda: st.session_state.update({"measure now": True}),
            icon=":material/timer:",
            key="time",
        )


def show_taken(names: tuple[str, str], taken: Times, batch: int) -> None:
    """A measurement."""
    by_side = [list(side) for side in zip(*taken, strict=True)]
    middle = [median(side) for side in by_side]
    titled_chart(
        "Time on this machine",
        charts.times(names, by_side),
        "times",
        f"Milliseconds of {names[0]} and {names[1]}, in {len(taken)} rounds",
        lambda: (["round", *[f"{name} (ms)" for name in names]], [[i + 1, *row] for i, row in enumerate(taken)]),
        help="Both take turns, each after a pass that does not count, so that whatever else slows the machine slows "
        "both. A dot is a pass, the line in a box the median.",
    )
    pictures = "one picture" if batch == 1 else f"{batch} pictures at once"
    machine = describe()
    st.markdown(
        f"{escape(names[0])}: **{ratio(*middle)}** as long as {escape(names[1])}, {middle[0]:.3g} against "
        f"{middle[1]:.3g} ms for {pictures}: medians of {len(taken)} passes each, on {escape(machine)}."
    )


def measure(view: View, other: View, batch: int) -> Times:
    """Milliseconds of both for that many pictures, a pair for each round; other tabs have their turn in between."""
    bar = st.progress(0.0, "Measuring …")
    first, second = (engine.steps(one.card.name, np.repeat(one.image, batch, axis=0), passes) for one in (view, other))
    taken: Times = []
    start = told = time.perf_counter()
    for pair in in_turns(first, second):
        taken.append(pair)
        now = time.perf_counter()
        if len(taken) == MOST or (len(taken) >= LEAST and now > start + SECONDS):
            break
        if now > told + PAUSE:
            told = now
            done = max(len(taken) / MOST, min((now - start) / SECONDS, len(taken) / LEAST))
            bar.progress(done, f"Measuring, {len(taken)} rounds")
    bar.empty()
    return taken


@st.cache_resource
def measurements() -> dict[tuple, Times]:
    """What was measured since the app started, for all tabs."""
    return {}


def stamp(card: Card) -> int:
    """Another number when the file of a model is another one."""
    return engine.file_of(card.name).stat().st_mtime_ns


@cache
def describe() -> str:
    """The device in a few words."""
    machine = describe_machine(None)
    cores = "one core" if machine.cores == 1 else f"{machine.cores} cores"
    return f"{machine.processor}, {cores}, with MLX {machine.mlx} on the {machine.device.split(',')[0].upper()}"
