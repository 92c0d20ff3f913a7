"""Route: what a network makes of a picture, and which experts each layer mixes for it."""

from collections.abc import Callable
from functools import partial

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import engine, export
from condconv_mlx.app.choices import knows
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.frame import (
    SMALLEST,
    View,
    crop_of,
    crops,
    current_expert,
    current_layer,
    invert_key,
    is_static,
    layers_of,
    link,
    open_page,
    select_cell,
)
from condconv_mlx.app.models import Card
from condconv_mlx.app.parts import escape, rounded, short, title, titled_chart
from condconv_mlx.app.pictures import Crop, Picture, enlarged, samples, with_crop
from condconv_mlx.app.references import usual
from condconv_mlx.charts.style import expert_color
from condconv_mlx.data import looks_dark_on_light

PAPER = r"""
**Section 3.** An ordinary convolution has one kernel for all images. A CondConv layer has $n$ of them, its experts
$W_1 … W_n$, and convolves an image once, with the mixture

$$\alpha_1 W_1 + … + \alpha_n W_n, \qquad \alpha = \mathrm{sigmoid}(\mathrm{GlobalAveragePool}(x) \cdot R)$$

The routing weights $\alpha$ are computed from the layer's own input $x$, each between 0 and 1, and the router $R$ is
learned with all else.

**Section 5.** In early layers the weights are much alike for all images. The deeper the layer, the more they depend on
what the image shows, and in the last one most are near 0 or near 1.
"""
DIFFERENCE = "Against the usual"


def show() -> None:
    """The page."""
    view = open_page(
        "Route",
        "Every layer mixes its kernel from experts, anew for each picture. Look for rows that change with the picture.",
        PAPER,
    )
    answer = view.answer_one()
    seen, predicted = st.columns([3, 2], gap="medium")
    with seen:
        title(escape(view.picture.title), "picture")
        show_picture(view.card, view.picture, answer.seen[0])
    with predicted:
        show_classes(view.card, view.picture, answer.probabilities[0])
    if not is_static(answer):
        show_routing(view, answer)
    download(view, routed=bool(answer.routing))


def show_picture(card: Card, picture: Picture, seen: np.ndarray) -> None:
    """The picture with its crop, and what the network sees of it."""
    box = crop_of(card, picture)
    # Both are equally high.
    aspect = min(max(picture.image.width / picture.image.height, 0.6), 1.8)
    original, network = st.columns([aspect, 1], wrap=False)
    with original:
        st.image(with_crop(picture.image, box), width="stretch", alt=f"{picture.title}, with the crop")
        if picture.credit:
            st.caption(picture.credit)
    with network:
        st.image(enlarged(seen), width="stretch", output_format="PNG", alt="what the network sees")
        st.caption(f"What the network sees: {card.size} × {card.size} pixels{', grey' if card.channels == 1 else ''}")
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Crop", icon=":material/crop:"):
            crop_sliders(card, picture)
        if card.channels == 1:
            key = invert_key(picture)
            if key not in st.session_state:
                edges = (box.left, box.top, box.left + box.size, box.top + box.size)
                st.session_state[key] = looks_dark_on_light(picture.image.crop(edges))
            st.toggle("Invert", key=key, persist_state="session", help="The network learned light garments on black.")


def crop_sliders(card: Card, picture: Picture) -> None:
    """Where the crop lies."""
    keys = [f"{part} {picture.id}" for part in ("size", "across", "down")]

    def moved() -> None:
        crops()[picture.id] = Crop(*(st.session_state[key] for key in keys))

    def reset() -> None:
        crops().pop(picture.id, None)

    own = Crop(round(100 * (card.crop or 1.0)))
    crop = crops().get(picture.id, own)
    box, (width, height) = crop_of(card, picture), picture.image.size
    sliders = [
        ("Size", SMALLEST, crop.size, True),
        ("Left to right", 0, crop.across, box.size < width),
        ("Top to bottom", 0, crop.down, box.size < height),
    ]
    for key, (label, least, value, can_move) in zip(keys, sliders, strict=True):
        st.session_state[key] = value
        st.slider(label, least, 100, format="%d %%", key=key, on_change=moved, disabled=not can_move)
    st.button("Reset", on_click=reset, icon=":material/restart_alt:", disabled=crop == own)


def show_classes(card: Card, picture: Picture, probabilities: np.ndarray) -> None:
    """The likeliest classes."""
    best = card.labels[int(probabilities.argmax())]
    titled_chart(
        "What it takes it for",
        charts.class_bars(card.labels, probabilities),
        "classes",
        f"The likeliest class is {best}, with {charts.percent(probabilities.max())}",
        lambda: (["class", "probability"], list(zip(card.labels, probabilities, strict=True))),
    )
    if picture.truth:
        st.caption(f"True class: {picture.truth}.")
    elif picture.credit and any(sample.truth for sample in samples(card.dataset)):
        st.caption("It shows none of these, so every answer is wrong.")
    right = "" if card.accuracy is None else f" Right for {charts.percent(card.accuracy)} of {card.measured_on}."
    st.caption(escape(f"{knows(card.labels)} Whatever it sees, it answers with one of them.{right}"))


def show_routing(view: View, answer: Answer) -> None:
    """Routing weights of the picture against the usual ones, and the mixture of one layer."""
    reference = usual(view)
    layer = current_layer(answer)
    chosen = layers_of(answer)[layer]
    weights = [routing.weights[0] for routing in answer.routing]
    means = [reference.mean[routing.router] for routing in answer.routing]
    expert = current_expert(len(weights[chosen]))
    how = st.session_state.get("how")
    titled_chart(
        "Which experts each layer mixes for it",
        charts.routing_heatmap(
            [short(routing.router) for routing in answer.routing],
            [routing.layers for routing in answer.routing],
            weights,
            means,
            selected=chosen,
            expert=expert,
            clickable=True,
            difference=how == DIFFERENCE,
        ),
        "routing",
        "Routing weights of this picture, routers by experts",
        partial(routing_rows, answer, means),
        help="A row for each router, in the order of the network. Click a cell to look at that layer and expert.",
        selection_mode="points",
        on_select=lambda: select_cell(answer, "routing"),
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.segmented_control(
            "Colour",
            ["This picture", DIFFERENCE],
            default="This picture",
            required=True,
            key="how",
            persist_state="session",
            label_visibility="collapsed",
            width="content",
        )
        st.caption(f"Usual is the mean of {reference.images:,} {escape(reference.of)}.", width="content")
    show_mixture(answer, layer, weights[chosen], means[chosen], expert)


def show_mixture(answer: Answer, layer: str, weights: np.ndarray, means: np.ndarray, expert: int | None) -> None:
    """One layer: what is added up for this picture, and how far that is from the usual."""
    router = short(answer.routing[layers_of(answer)[layer]].router)
    left, right = st.columns(2, gap="medium")
    with left:
        titled_chart(
            f"{escape(router)}: this picture, and the usual",
            charts.expert_bars(weights, means, expert),
            "mixture",
            f"Routing weights of {router}, a bar for each expert, with its usual weight as a line",
            lambda: (
                ["expert", "routing weight", "usual"],
                [[i + 1, *pair] for i, pair in enumerate(zip(weights, means, strict=True))],
            ),
            help="A bar is what the expert counts here, the dotted line what it counts usually.",
        )
    with right:
        title(f"The kernel of {escape(layer)}", "kernel")
        st.html(formula(weights))
        st.markdown(unusual(weights, means, expert))
        link("kernels", "See these kernels")


def formula(weights: np.ndarray) -> str:
    """α₁W₁ + … + αₙWₙ with numbers, in HTML; each term underlined in the expert's colour."""
    terms = [
        f"<span style='border-bottom: 3px solid {expert_color(i)}; padding: 0 .15em; white-space: nowrap'>"
        f"{weight:.2f} W<sub>{i + 1}</sub></span>"
        for i, weight in enumerate(weights)
    ]
    return f"<div style='line-height: 2.2; font-size: 1.05rem'>{' + '.join(terms)}</div>"


def unusual(weights: np.ndarray, means: np.ndarray, expert: int | None) -> str:
    """A sentence about the chosen expert, or about the one that is farthest from its mean."""
    i = int(np.abs(weights - means).argmax()) if expert is None else expert
    ratio = weights[i] / max(float(means[i]), 1e-6)
    if abs(weights[i] - means[i]) < 0.02:
        how = "as active as usual"
    elif ratio >= 1.05:
        how = f"**{ratio:.1f} times as active** as usual"
    else:
        how = f"**{rounded(1 - ratio)} less active** than usual"
    first = "Most unusual: expert" if expert is None else "Expert"
    return f"{first} {i + 1} is {how}, {weights[i]:.2f} against {means[i]:.2f}."


def routing_rows(answer: Answer, means: list[np.ndarray]) -> tuple[list[str], list[list]]:
    """The heatmap as a table."""
    rows = [
        [routing.router, expert + 1, weight, usual]
        for routing, mean in zip(answer.routing, means, strict=True)
        for expert, (weight, usual) in enumerate(zip(routing.weights[0], mean, strict=True))
    ]
    return ["router", "expert", "routing weight", "usual"], rows


def download(view: View, routed: bool) -> None:
    """The numbers of all pictures."""
    card, names = view.card, [picture.title for picture in view.pictures]

    def written(write: Callable[[Answer], str]) -> Callable[[], str]:
        # When asked for: many pictures by a thousand classes take a while.
        return lambda: write(engine.run(card.name, view.images))

    files: list[tuple[str, str, str, Callable[[Answer], str]]] = [
        ("Predictions (CSV)", "predictions.csv", "text/csv", partial(export.predictions_csv, card, names)),
        ("Routing weights (CSV)", "routing.csv", "text/csv", partial(export.routing_csv, names)),
        ("Both (JSON)", "condconv.json", "application/json", partial(export.to_json, card, names)),
    ]
    if not routed:
        files = [files[0], ("Predictions (JSON)", *files[2][1:])]
    st.caption("All pictures of the tray:")
    with st.container(horizontal=True):
        for label, name, kind, write in files:
            st.download_button(
                label, written(write), name, kind, on_click="ignore", icon=":material/download:", type="tertiary"
            )
