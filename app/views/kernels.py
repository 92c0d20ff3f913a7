"""Kernels: the experts of a layer, and the kernel that they are mixed into for a picture."""

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import address, engine
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.frame import View, choose_layer, is_static, layers_of, open_page
from condconv_mlx.app.parts import rounded, shortened, titled_chart
from condconv_mlx.app.references import usual
from condconv_mlx.charts.style import expert_color, plain
from condconv_mlx.explain import Mixture, build_up, mixed_kernel, mixture, relative_change, responses, similarity

# Of a kernel in pixels, and of one in a row of a few.
SIDE = 120
LARGE = 220
# Up to this many pixels Streamlit puts columns below each other, and the page has the screen less its margins.
NARROW, WIDTH = 640, "100vw - 2rem"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

PAPER = r"""
**Section 3.** A mixture of experts would convolve with every expert, and add up the results:

$$\alpha_1 (W_1 * x) + … + \alpha_n (W_n * x)$$

Convolution is linear, so that the same comes out where the kernels are added up first:

$$(\alpha_1 W_1 + … + \alpha_n W_n) * x$$

That takes one convolution in the place of $n$. Adding up kernels costs next to nothing beside it, since a kernel is
small and a convolution applies it at every position.
"""


def show() -> None:
    """The page."""
    view = open_page(
        "Kernels",
        "Many kernels become one. Look for what the mixture takes from each expert, and what another picture changes.",
        PAPER,
    )
    answer = view.answer_one()
    if is_static(answer):
        return
    left, right = st.columns(2, gap="medium")
    with left:
        layer = choose_layer(answer)
    i = layers_of(answer)[layer]
    weights = answer.routing[i].weights[0]
    means = usual(view).mean[answer.routing[i].router]
    kernels = engine.call(view.card.name, mixture, layer, weights, means.astype(np.float32))
    with right:
        channel = choose_filter(view, answer, kernels)
    show_mixing(kernels, weights, channel)
    show_change(kernels, channel)
    show_responses(view, layer, channel, weights)
    show_other(view, answer, i, kernels, channel)


def choose_filter(view: View, answer: Answer, kernels: Mixture) -> int:
    """The output channel to look at: the one that this picture changes most first, or the likeliest class."""
    is_class = kernels.mixed.ndim == 2 and len(kernels.mixed) == len(view.card.labels)
    order = np.argsort(-(answer.probabilities[0] if is_class else kernels.change), kind="stable")
    chosen = address.remember("filter", [str(o + 1) for o in order], str(order[0] + 1))

    def title(number: str) -> str:
        o = int(number) - 1
        name = view.card.labels[o] if is_class else f"{number} of {len(order)}"
        return f"{name} · {rounded(kernels.change[o])} from the usual"

    st.selectbox(
        "Class" if is_class else "Filter",
        [str(o + 1) for o in order],
        format_func=title,
        key="filter",
        help="The likeliest first." if is_class else "Those that this picture changes most come first.",
    )
    return int(chosen) - 1


def fit(key: str, count: int, columns: int, size: int) -> None:
    """On a narrow screen, no more height for a chart of that key than its pictures take."""
    height = charts.fitting_height(count, columns, size, WIDTH)
    chart = f".st-key-{key.replace(' ', '-')}"
    st.html(
        f"<style>@media (max-width: {NARROW}px) {{{chart} {{flex-basis: auto; height: auto}} "
        f"{chart} .stPlotlyChart {{height: {height} !important}}}}</style>"
    )


def show_mixing(kernels: Mixture, weights: np.ndarray, channel: int) -> None:
    """The experts of one filter, and how they add up."""
    experts, mixed = kernels.experts[:, channel], kernels.mixed[channel]
    order, sums = build_up(experts, weights)
    limit = max(float(np.abs(experts).max()), float(np.abs(sums).max())) or 1.0
    many, one = st.columns([5, 3], gap="medium")
    with many:
        fit("experts", len(experts), 4, SIDE)
        titled_chart(
            "The experts",
            charts.kernel_tiles(
                list(experts), [caption(i, weight) for i, weight in enumerate(weights)], limit, size=SIDE, color=True
            ),
            "experts",
            "The experts' kernels, each with its routing weight",
            lambda: table({f"expert {i + 1}": kernel for i, kernel in enumerate(experts)}),
            help="Over each its number and what it counts here. " + slices(mixed),
        )
    with one:
        titles = [f"{'+ ' if step else ''}{caption(i, weights[i])}" for step, i in enumerate(order)]
        titled_chart(
            "Added up, the strongest first",
            charts.build_up_tiles(sums, titles, limit, size=2 * SIDE + 26),
            "mixed",
            "The mixed kernel, as it is added up",
            lambda: table({f"after expert {i + 1}": kernel for i, kernel in zip(order, sums, strict=True)}),
            help="Press ▶, or move the slider: at each step one more expert is added, times its routing weight.",
        )


def show_change(kernels: Mixture, channel: int) -> None:
    """The mixed kernel beside the usual one."""
    mixed, mean = kernels.mixed[channel], kernels.usual[channel]
    fit("change", 3, 3, LARGE)
    titled_chart(
        "What this picture changes",
        charts.kernel_tiles(
            [mixed, mean, mixed - mean], ["This picture", "Usual", "Difference"], columns=3, size=LARGE, color=True
        ),
        "change",
        "The mixed kernel, the usual one, and their difference",
        lambda: table({"this picture": mixed, "usual": mean}),
        help="The usual kernel is the mixture with the usual routing weights.",
    )
    st.markdown(
        f"This filter is **{rounded(kernels.change[channel])}** from its usual kernel; of the layer's "
        f"{len(kernels.change)} the one that changes least {rounded(kernels.change.min())}, the one that changes most "
        f"{rounded(kernels.change.max())}."
    )


def show_responses(view: View, layer: str, channel: int, weights: np.ndarray) -> None:
    """What the filter answers to the picture with each expert, and with their mixture."""
    found = engine.look(view.card.name, view.image, responses, layer, channel, weights)
    names = [f"expert {i + 1}" for i in range(len(weights))]
    maps = [found.mixed, *found.experts]
    titles = ["<b>Mixture</b>", *[caption(i, weight) for i, weight in enumerate(weights)]]
    if found.mixed.size > 1:
        fit("responses", len(maps), 5, SIDE)
        titled_chart(
            "What the filter answers",
            charts.kernel_tiles([one[..., None] for one in maps], titles, columns=5, size=SIDE, quantity="response"),
            "responses",
            "The response of the mixture and of each expert, at every position",
            lambda: table(dict(zip(["mixture", *names], maps, strict=True))),
            help="Before normalisation and activation: orange below zero, blue above.",
        )
    else:
        parts = [f"{weight:.2f} · {float(one.item()):+.2f}" for weight, one in zip(weights, found.experts, strict=True)]
        st.markdown("#### What the filter answers")
        st.markdown(f"{' + '.join(f'({part})' for part in parts)} = **{found.mixed.item():+.3f}**")
    st.markdown(
        f"Mix {len(weights)} kernels and convolve once, or convolve {len(weights)} times and mix the results: over the "
        f"whole layer the two differ by at most **{scientific(found.disagreement)}** of the largest response, which is "
        "rounding."
    )


def show_other(view: View, answer: Answer, i: int, kernels: Mixture, channel: int) -> None:
    """The same filter for another picture."""
    others = {picture.id: n for n, picture in enumerate(view.pictures) if n != view.n}
    if not others:
        st.info("Add a second picture, and its kernel stands here beside this one's.")
        return
    other = address.remember("other", list(others), next(iter(others)))
    st.selectbox(
        "Beside another picture", list(others), format_func=lambda id: view.pictures[others[id]].title, key="other"
    )
    n = others[other]
    weights, others_weights = answer.routing[i].weights[0], view.answer_one(n).routing[i].weights[0]
    theirs = mixed_kernel(kernels.experts, others_weights)
    left, right = kernels.mixed[channel], theirs[channel]
    fit("other kernels", 3, 3, LARGE)
    titles = [shortened(view.pictures[number].title, 16) for number in (view.n, n)]
    titled_chart(
        "What their kernels do not share",
        charts.kernel_tiles(
            [left, right, left - right], [*map(plain, titles), "Difference"], columns=3, size=LARGE, color=True
        ),
        "other kernels",
        f"The kernels for {titles[0]} and {titles[1]}, and their difference",
        lambda: table({titles[0]: left, f"{titles[1]} (other)": right}),
    )
    apart = relative_change(kernels.mixed, theirs)
    st.markdown(
        f"This filter differs by **{rounded(apart[channel])}**, and the layer's kernels point the same way by "
        f"**{similarity(kernels.mixed, theirs):.3f}** (cosine; 1 is the same direction). The experts that differ most: "
        f"{furthest(weights, others_weights)}."
    )


def furthest(weights: np.ndarray, others: np.ndarray, count: int = 3) -> str:
    """The experts whose weights are farthest apart."""
    order = np.argsort(-np.abs(weights - others), kind="stable")[:count]
    return ", ".join(f"{e + 1} ({weights[e]:.2f} against {others[e]:.2f})" for e in order)


def caption(expert: int, weight: float) -> str:
    """An expert over its kernel: its colour, its number, what it counts."""
    return f"<span style='color:{expert_color(expert)}'>■</span> {expert + 1} · {weight:.2f}"


def slices(kernel: np.ndarray) -> str:
    """What the small squares of a kernel's picture are."""
    if kernel.shape[-1] == 1:
        return "Depthwise: each channel has a square of its own."
    if kernel.ndim == 3 and kernel.shape[-1] == 3:
        return "Its three input channels are red, green and blue; grey is zero."
    return "One square for each input channel."


def table(kernels: dict[str, np.ndarray]) -> tuple[list[str], list[list]]:
    """Arrays of one shape as a table: a row for each number, by its place, a column for each array."""
    first = next(iter(kernels.values()))
    axes = {1: ["input channel"], 2: ["row", "column"], 3: ["row", "column", "input channel"]}[first.ndim]
    rows = [
        [*(k + 1 for k in place), *(kernel[place] for kernel in kernels.values())] for place in np.ndindex(first.shape)
    ]
    return [*axes, *kernels], rows


def scientific(value: float) -> str:
    """3·10⁻⁷."""
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPTS)}" if value else "0"
