"""Explore: what a network makes of pictures, and which experts it mixes for each."""

from functools import partial

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import engine, export
from condconv_mlx.app.choices import choose_model, choose_picture, upload
from condconv_mlx.app.engine import Answer, Card, Routing
from condconv_mlx.app.parts import MANY, chart, escape, in_address, remember, scrolling, shortened
from condconv_mlx.app.pictures import Crop, Picture, enlarged, samples, with_crop
from condconv_mlx.data import Box, default_crop, fit_image, looks_dark_on_light

# Of an expert's kernel, in pixels.
SIDE = 120


def show() -> None:
    """The page."""
    st.header("CondConv", anchor=False)
    st.markdown("Its layers mix their kernels from experts, anew for each picture.")
    left, right = st.columns(2, gap="medium")
    # First, because the page may end with the choice of a model, and what is not drawn is forgotten.
    with right:
        mine, problems = upload()
    with left:
        card = choose_model()
    if problems:
        st.error("  \n".join(escape(problem) for problem in problems))
    pictures = [*mine, *samples(card.dataset)]
    n = choose_picture(pictures)
    picture = pictures[n]
    with st.spinner("Looking …"):
        answer = engine.run(card.name, np.stack([fitted(card, picture) for picture in pictures]))

    st.markdown(f"#### {escape(picture.title)}")
    seen, predicted = st.columns([3, 2], gap="medium")
    with seen:
        show_picture(card, picture, answer.seen[n])
    with predicted:
        show_classes(card, picture, answer.probabilities[n])
    if answer.routing:
        show_routing(card, pictures, n, answer)
    else:
        st.info("This network is static: each layer has one kernel for every picture, so there is nothing to route.")
        in_address(layer=None)
    download(card, pictures, answer)
    # An upload is gone after a reload.
    in_address(model=card.name, image=picture.id if n >= len(mine) else None)


def fitted(card: Card, picture: Picture) -> np.ndarray:
    """A picture as the network takes it, kept until its crop or inversion changes."""
    # Untouched, the crop is the network's own, which fit_image knows to the pixel.
    box = crop_of(card, picture) if picture.id in crops() else None
    settings = box, st.session_state.get(invert_key(picture)) if card.channels == 1 else None
    kept = st.session_state.setdefault("fitted", {})
    key = picture.id, card.size, card.channels, card.crop, card.interpolation
    if key not in kept or kept[key][0] != settings:
        pixels = fit_image(
            picture.image, card.size, card.channels, *settings, crop=card.crop, interpolation=card.interpolation
        )
        kept[key] = settings, pixels
    return kept[key][1]


def crops() -> dict[str, Crop]:
    """The crops that were moved, by the picture's id."""
    return st.session_state.setdefault("crops", {})


def crop_of(card: Card, picture: Picture) -> Box:
    """The crop that the sliders say, and the network's own until they are moved."""
    size = picture.image.size
    return crops()[picture.id].box(size) if picture.id in crops() else default_crop(size, card.crop or 1.0)


def invert_key(picture: Picture) -> str:
    """Where the switch of a picture is kept."""
    return f"invert {picture.id}"


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


def show_routing(card: Card, pictures: list[Picture], n: int, answer: Answer) -> None:
    """Routing weights of the picture, a layer's kernels, and the same router for all pictures."""
    of_layer = {layer: i for i, routing in enumerate(answer.routing) for layer in routing.layers}
    remember("layer", list(of_layer), next(iter(of_layer)))
    chosen = of_layer[st.session_state["layer"]]
    this, all_ = st.columns([3, 2], gap="large")
    with this:
        st.markdown("#### Routing weights")
        chart(
            charts.routing_heatmap(
                [short(routing) for routing in answer.routing],
                [routing.layers for routing in answer.routing],
                [routing.weights[n] for routing in answer.routing],
                selected=chosen,
                clickable=True,
            ),
            "routing",
            "Routing weights of this picture, routers by experts",
            key="routing",
            selection_mode="points",
            on_select=lambda: select_router(answer),
        )
        st.markdown("#### Kernels")
        layer, channel = st.columns(2)
        with layer:
            st.selectbox("Layer", list(of_layer), key="layer")
        show_kernels(card, st.session_state["layer"], answer.routing[chosen].weights[n], channel)
    with all_:
        st.markdown(f"#### All pictures at {escape(short(answer.routing[chosen]))}")
        figure = charts.expert_usage(
            [shortened(picture.title) for picture in pictures],
            answer.routing[chosen].weights,
            [f"taken for {card.labels[i]}" for i in answer.probabilities.argmax(axis=1)],
            [picture.thumbnail for picture in pictures],
        )
        with scrolling(780 if len(pictures) > MANY else None):
            chart(figure, "usage", f"Routing weights of {short(answer.routing[chosen])}, all pictures", key="usage")
    in_address(layer=st.session_state["layer"])


def short(routing: Routing) -> str:
    """A router by the name of what it belongs to."""
    return routing.router.removesuffix(".router")


def select_router(answer: Answer) -> None:
    """A click on a cell chooses its router's first layer."""
    points = st.session_state["routing"]["selection"]["points"]
    if points:
        st.session_state["layer"] = answer.routing[int(points[0]["customdata"][0])].layers[0]


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
