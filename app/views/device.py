"""Device: what experts cost on this machine, and what it has and lacks."""

from collections.abc import Sequence

import streamlit as st

from condconv_mlx.app import address, engine
from condconv_mlx.app.choices import NUMBERS
from condconv_mlx.app.device_report import show_report
from condconv_mlx.app.frame import heading
from condconv_mlx.app.parts import escape, titled_chart
from condconv_mlx.bench import kept
from condconv_mlx.bench.cases import EXPERT_COUNTS, LIVE, Shape
from condconv_mlx.bench.experts import ExpertRow, measure_in_turns, multiply_adds
from condconv_mlx.charts.bench import expert_costs

PAPER = r"""
**Section 3.** A mixture of experts computes $\alpha_1 (W_1 * x) + … + \alpha_n (W_n * x)$: $n$ convolutions. CondConv
computes $(\alpha_1 W_1 + … + \alpha_n W_n) * x$, which is the same function. One more expert then costs one
multiply-add for each parameter of the kernel, once an image, where a convolution costs one for each parameter *at every
position*. So the capacity of a layer can grow, and its cost hardly does. The smaller the image is inside the network,
the more there is to be mixed beside what there is to be convolved.
"""

NAMES = {
    "kernels": "one convolution of the mixed kernel",
    "outputs": "n convolutions, outputs mixed",
    "static": "static convolution",
}
PASSES = {"inference": False, "training": True}
# The number of experts to speak of: the paper's.
SPOKEN = 8


def show() -> None:
    """The page."""
    heading(
        "Device",
        "What more experts cost on this machine: look how far apart mixing kernels and mixing outputs come to lie.",
        PAPER,
    )
    shape, backward = choose()
    rows, date = found(shape, backward)
    bar = st.empty()
    if rows:
        show_costs(rows)
        st.markdown(sentence(rows))
        st.caption(escape(how(shape, backward, date)))
    elif not measuring():
        st.info("Nothing is measured yet. **Start**: the lines are drawn as they are measured, in some ten seconds.")
    st.divider()
    show_report()
    # Last, since what is drawn after it would wait.
    if measuring():
        measure(shape, backward, rows, bar)


def choose() -> tuple[Shape, bool]:
    """A convolution, whether gradients are included, and the button."""
    name = address.remember("convolution", list(LIVE), next(iter(LIVE)))
    mode = address.remember("mode", list(PASSES), next(iter(PASSES)))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Layer",
            list(LIVE),
            format_func=lambda name: f"{name}: {place(LIVE[name][0])}",
            key="convolution",
            disabled=measuring(),
            width=440,
        )
        st.segmented_control(
            "As in",
            list(PASSES),
            format_func=str.capitalize,
            required=True,
            key="mode",
            disabled=measuring(),
            help="Inference: the output for one image. Training: for a few images, with all gradients.",
        )
        shape, backward = LIVE[name][PASSES[mode]], PASSES[mode]
        again = bool(found(shape, backward)[0])
        # One button whatever it says, so that while a run goes on none is left of the run before.
        st.button(
            "Stop" if measuring() else "Measure again" if again else "Start",
            on_click=stop if measuring() else start,
            args=() if measuring() else (shape, backward),
            type="secondary" if again or measuring() else "primary",
            icon=f":material/{'stop' if measuring() else 'play_arrow'}:",
            key="measure",
        )
    return shape, backward


def measuring() -> bool:
    """Whether this tab measures, also if it is interrupted just now: then it goes on."""
    return bool(st.session_state.get("measuring"))


def start(shape: Shape, backward: bool) -> None:
    """Begin anew."""
    st.session_state["measuring"] = True
    st.session_state["measured"][shape, backward] = [], ""


def stop() -> None:
    """Keep what is there."""
    st.session_state["measuring"] = False


def found(shape: Shape, backward: bool) -> tuple[list[ExpertRow], str]:
    """What this tab has measured, and when that was kept; at first what was kept on this device."""
    if "measured" not in st.session_state:
        last = engine.turn(kept.load)
        st.session_state["measured"] = {key: (list(one.rows), one.date) for key, one in last.items()}
    return st.session_state["measured"].get((shape, backward), ([], ""))


def measure(shape: Shape, backward: bool, rows: list[ExpertRow], bar: st.delta_generator.DeltaGenerator) -> None:
    """The next number of experts, and the page again; the file when all are there."""
    count = next(count for count in EXPERT_COUNTS if count not in [row.experts for row in rows])
    for share, row in engine.turns(measure_in_turns, shape, backward, count):
        bar.progress((len(rows) + share) / len(EXPERT_COUNTS), f"{count} expert{'s' if count > 1 else ''} …")
        if row:
            rows.append(row)
    if len(rows) == len(EXPERT_COUNTS):
        stop()
        try:
            st.session_state["measured"][shape, backward] = rows, engine.turn(kept.keep, rows).date
        except (OSError, RuntimeError) as error:  # also where a user has no home folder
            # The tab has them all the same.
            st.toast(escape(f"The measurement could not be kept: {error}"))
    st.rerun()


def show_costs(rows: Sequence[ExpertRow]) -> None:
    """Time as measured, and multiply-adds as reckoned, side by side."""
    counts = [row.experts for row in rows]
    times = {title: [row.ms[name] for row in rows] for name, title in NAMES.items()}
    reckoned = [multiply_adds(row.shape, row.experts, row.backward) for row in rows]
    madds = {title: [one[name] / 1e6 for one in reckoned] for name, title in NAMES.items()}
    emphasised = NAMES["kernels"]
    left, right = st.columns(2, gap="medium")
    with left:
        titled_chart(
            "Time, measured here",
            expert_costs(counts, times, emphasised, ticks=EXPERT_COUNTS),
            "experts-time",
            "Milliseconds against the number of experts",
            lambda: (["experts", *(f"{name} (ms)" for name in times)], list(zip(counts, *times.values(), strict=True))),
            help="Both axes are logarithmic: a straight line that rises is a cost that grows with the experts.",
        )
    with right:
        titled_chart(
            "Multiply-adds, by theory",
            expert_costs(counts, madds, emphasised, "million multiply-adds an image", ticks=EXPERT_COUNTS),
            "experts-multiply-adds",
            "Multiply-adds of one image against the number of experts",
            lambda: (["experts", *madds], list(zip(counts, *madds.values(), strict=True))),
            help="What an ideal machine would need, to which memory is free. With gradients it is three times as much.",
        )


def sentence(rows: Sequence[ExpertRow]) -> str:
    """What came out, with eight experts or the most up to there."""
    row = next((row for row in rows if row.experts == SPOKEN), rows[-1])
    madds = multiply_adds(row.shape, row.experts, row.backward)
    measured, theory = (
        [f"{costs[name] / costs['static']:.1f}" for name in ("kernels", "outputs")] for costs in (row.ms, madds)
    )
    many = f"{NUMBERS[row.experts]} {'take' if row.experts > 1 else 'takes'}"
    return (
        f"With {row.experts} expert{'s' if row.experts > 1 else ''}, one convolution of the mixed kernel takes "
        f"**{measured[0]} times** as long as a static one, and {many} **{measured[1]} times** as long. By theory it "
        f"would be {theory[0]} and {theory[1]} times."
    )


def how(shape: Shape, backward: bool, date: str) -> str:
    """What was measured, for who wants to do it again."""
    images = "1 image" if shape.examples == 1 else f"{shape.examples} images at once"
    gradients = ", with all gradients" if backward else ""
    when = f", {date}" if date else ""
    return f"{images}, {place(shape)}, float32{gradients}; medians, taken in turns{when}."


def place(shape: Shape) -> str:
    """A convolution, and the size of the images that come to it."""
    return f"{shape.convolution} at {shape.size}×{shape.size}"
