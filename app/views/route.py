"""Route: what a network makes of a picture, and which experts each layer mixes for it."""

from functools import partial

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import export
from condconv_mlx.app.choices import knows
from condconv_mlx.app.engine import Answer, Routing
from condconv_mlx.app.frame import (
    crop_of,
    crops,
    current_layer,
    invert_key,
    is_static,
    layers_of,
    open_page,
    select,
)
from condconv_mlx.app.models import Card
from condconv_mlx.app.parts import chart, escape, short, titled_chart
from condconv_mlx.app.pictures import Crop, Picture, enlarged, samples, with_crop
from condconv_mlx.data import looks_dark_on_light

PAPER = """
"""


def show() -> None:
    """The page."""
    view = open_page(
        "Route",
        "Each layer mixes its kernel anew for each picture: look for the rows that change from picture to picture.",
        PAPER,
    )
    card, pictures, n, picture = view.card, view.pictures, view.n, view.picture
    answer = view.answer()

    st.markdown(f"#### {escape(picture.title)}")
    seen, predicted = st.columns([3, 2], gap="medium")
    with seen:
        show_picture(card, picture, answer.seen[n])
    with predicted:
        show_classes(card, picture, answer.probabilities[n])
    if not is_static(answer):
        show_routing(answer, n)
    download(card, pictures, answer)


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
        ("Size", 10, crop.size, True),
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
    chart(
        charts.class_bars(card.labels, probabilities),
        "classes",
        f"The likeliest class is {best}, with {charts.percent(probabilities.max())}",
        key="classes",
    )
    if picture.truth:
        st.caption(f"True class: {picture.truth}.")
    elif picture.credit and any(sample.truth for sample in samples(card.dataset)):
        st.caption("It shows none of these, so every answer is wrong.")
    right = "" if card.accuracy is None else f" Right for {charts.percent(card.accuracy)} of {card.measured_on}."
    st.caption(escape(f"{knows(card.labels)} Whatever it sees, it answers with one of them.{right}"))


def show_routing(answer: Answer, n: int) -> None:
    """Routing weights of the picture."""
    layer = current_layer(answer)
    chosen = layers_of(answer)[layer]
    titled_chart(
        "Which experts each layer mixes for this picture",
        charts.routing_heatmap(
            [short(routing.router) for routing in answer.routing],
            [routing.layers for routing in answer.routing],
            [routing.weights[n] for routing in answer.routing],
            selected=chosen,
            clickable=True,
        ),
        "routing",
        "Routing weights of this picture, routers by experts",
        partial(routing_rows, answer.routing, n),
        selection_mode="points",
        on_select=lambda: select_cell(answer),
    )


def routing_rows(routing: tuple[Routing, ...], n: int) -> tuple[list[str], list[list]]:
    rows = [[r.router, expert + 1, weight] for r in routing for expert, weight in enumerate(r.weights[n])]
    return ["router", "expert", "routing weight"], rows


def select_cell(answer: Answer) -> None:
    """A click on a cell chooses its router's first layer, and its expert."""
    points = st.session_state["routing"]["selection"]["points"]
    if points:
        select(answer.routing[int(points[0]["customdata"][0])].layers[0], int(points[0]["x"]))


def download(card: Card, pictures: list[Picture], answer: Answer) -> None:
    """The numbers behind the page."""
    names = [picture.title for picture in pictures]
    files = [("Predictions (CSV)", "predictions.csv", "text/csv", partial(export.predictions_csv, card, names, answer))]
    if answer.routing:
        routing = partial(export.routing_csv, names, answer)
        files.append(("Routing weights (CSV)", "routing.csv", "text/csv", routing))
    both = "Both (JSON)" if answer.routing else "Predictions (JSON)"
    files.append((both, "condconv.json", "application/json", partial(export.to_json, card, names, answer)))
    with st.container(horizontal=True):
        # Written when asked for: many pictures by a thousand classes take a while.
        for label, name, kind, write in files:
            st.download_button(label, write, name, kind, on_click="ignore", icon=":material/download:", type="tertiary")
