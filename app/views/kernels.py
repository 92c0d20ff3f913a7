"""Kernels: the experts of a layer, and the kernel that they are mixed into."""

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import engine
from condconv_mlx.app.frame import choose_layer, is_static, layers_of, open_page
from condconv_mlx.app.models import Card
from condconv_mlx.app.parts import chart

# Of an expert's kernel, in pixels.
SIDE = 120

PAPER = """
"""


def show() -> None:
    """The page."""
    view = open_page("Kernels", "Many kernels become one.", PAPER)
    answer = view.answer_one()
    if is_static(answer):
        return
    layer, channel = st.columns(2)
    with layer:
        chosen = choose_layer(answer)
    show_kernels(view.card, chosen, answer.routing[layers_of(answer)[chosen]].weights[0], channel)


def show_kernels(card: Card, layer: str, weights: np.ndarray, place: st.delta_generator.DeltaGenerator) -> None:
    """The experts of a layer and their mixture, for one output channel."""
    kernels = engine.kernels(card.name, layer, weights)
    outputs = len(kernels.mixed)
    norms = np.linalg.norm(kernels.mixed.reshape(outputs, -1), axis=1)
    key = f"channel {card.name} {layer}"
    chosen = st.session_state.setdefault("channels", {})
    st.session_state[key] = chosen.get(key, int(norms.argmax()) + 1)

    def keep() -> None:
        chosen[key] = st.session_state[key]

    is_class = kernels.mixed.ndim == 2
    names = {i + 1: card.labels[i] if is_class else f"{i + 1} of {outputs}" for i in range(outputs)}
    with place:
        st.selectbox(
            "Class" if is_class else "Output channel",
            list(names),
            format_func=names.__getitem__,
            key=key,
            on_change=keep,
            help="Starts at the one with the largest mixed kernel.",
        )
    o = st.session_state[key] - 1
    experts, mixed = kernels.experts[:, o], kernels.mixed[o]
    limit = max(float(np.abs(experts).max()), float(np.abs(mixed).max()))
    one, many = st.columns([3, 5])
    with one:
        figure = charts.kernel_tiles(
            [mixed], ["Mixed"], limit, columns=1, size=2 * SIDE + 26, emphasised=True, scale=False
        )
        chart(figure, "mixed-kernel", "The mixed kernel", key="mixed")
    with many:
        captions = [f"{i + 1} · {weight:.2f}" for i, weight in enumerate(weights)]
        figure = charts.kernel_tiles(list(experts), captions, limit, size=SIDE)
        chart(figure, "experts", "The experts' kernels", key="experts")
    tiles = "Depthwise: each channel has a tile of its own." if mixed.shape[-1] == 1 else "One tile per input channel."
    st.caption(f"{tiles} Over each expert its number and routing weight; mixed is their weighted sum.")
