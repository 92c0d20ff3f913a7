"""What every page begins with: its heading, the model, the pictures."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import streamlit as st

from condconv_mlx.app import address, engine, tray
from condconv_mlx.app.choices import choose_model
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.models import Card
from condconv_mlx.app.parts import escape
from condconv_mlx.app.pictures import Crop, Picture
from condconv_mlx.data import Box, default_crop

# Of a crop, in percent of the picture.
SMALLEST = 10
# The page begins higher up, and its heading is no banner.
STYLE = """<style>
[data-testid=stMainBlockContainer] {padding-top: 4rem}
[data-testid=stMainBlockContainer] h2 {font-size: 1.6rem; padding: .25rem 0 0}
[data-testid=stMainBlockContainer] h4 {font-size: 1.15rem; padding: .25rem 0}
[class*=st-key-title-] {flex-wrap: nowrap; min-height: 2.5rem}
[class*=st-key-title-] [data-testid=stMarkdownContainer] {margin-bottom: 0}
</style>"""


@dataclass(frozen=True)
class View:
    """What a tab looks at: a model, all pictures of the tray, and the index of the chosen one."""

    card: Card
    pictures: list[Picture]
    n: int

    @property
    def picture(self) -> Picture:
        """The chosen one."""
        return self.pictures[self.n]

    @cached_property
    def images(self) -> np.ndarray:
        """All pictures as the network takes them: uint8 (N, size, size, channels)."""
        return np.stack([fitted(self.card, picture) for picture in self.pictures])

    @property
    def image(self) -> np.ndarray:
        """The chosen one as the network takes it: uint8 (1, size, size, channels)."""
        return fitted(self.card, self.picture)[None]

    def answer(self) -> Answer:
        """What the model makes of all pictures."""
        with st.spinner("Looking …", show_time=True):
            return engine.run(self.card.name, self.images)

    def answer_one(self, n: int | None = None) -> Answer:
        """What the model makes of one picture, the chosen one unless an index is given; N is 1."""
        image = self.image if n is None else fitted(self.card, self.pictures[n])[None]
        with st.spinner("Looking …", show_time=True):
            return engine.run(self.card.name, image)


def heading(title: str, look_for: str, paper: str) -> None:
    """The title of a page, one sentence that says what to look for, and what the paper says of it."""
    st.html(STYLE)
    st.header(title, anchor=False)
    st.markdown(look_for)
    with st.expander("What the paper says", type="compact"):
        st.markdown(paper)


def open_page(title: str, look_for: str, paper: str) -> View:
    """The beginning of a page about a model and pictures. Ends the page where there is no model to use.

    Args:
        title: one or two words.
        look_for: a sentence, in Markdown.
        paper: what section of the paper stands behind it, and what that says, in Markdown and in our own words.
    """
    tray.arrive()
    heading(title, look_for, paper)
    if told := st.session_state.get("problems"):
        st.error("  \n".join(escape(problem) for problem in told))
    left, right = st.columns([1, 2], gap="medium", vertical_alignment="center")
    with left:
        card = choose_model()
    with right:
        pictures, n = tray.choose_picture(card)
    keep_framing(card, pictures[n])
    return View(card, pictures, n)


def fitted(card: Card, picture: Picture) -> np.ndarray:
    """A picture as the network takes it, with its crop and inversion."""
    # Untouched, the crop is the network's own, which fit_image knows to the pixel.
    box = crop_of(card, picture) if picture.id in crops() else None
    invert = st.session_state.get(invert_key(picture)) if card.channels == 1 else None
    return picture.fitted(card.size, card.channels, box, invert, card.crop, card.interpolation)


def keep_framing(card: Card, picture: Picture) -> None:
    """Crop and inversion of the chosen picture, from the address where a tab begins, and into it from then on."""
    key = invert_key(picture)
    if not st.session_state.get("framed"):
        st.session_state["framed"] = True
        numbers = (address.value("crop") or "").split(",")
        if len(numbers) == 3 and all(number.isdecimal() and int(number) <= 100 for number in numbers):
            size, across, down = map(int, numbers)
            crops()[picture.id] = Crop(max(size, SMALLEST), across, down)
        if address.value("invert") in ("0", "1") and card.channels == 1:
            st.session_state[key] = address.value("invert") == "1"
    crop = crops().get(picture.id)
    inverted = st.session_state.get(key) if card.channels == 1 else None
    address.put(
        crop=f"{crop.size},{crop.across},{crop.down}" if crop else None,
        invert=None if inverted is None else str(int(inverted)),
    )


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


def layers_of(answer: Answer) -> dict[str, int]:
    """For each CondConv layer the index of its router in `answer.routing`, in order of execution."""
    return {layer: i for i, routing in enumerate(answer.routing) for layer in routing.layers}


def current_layer(answer: Answer) -> str:
    """The layer that this tab looks at, by a click on Route or a choice on any page; at first the first."""
    layers = layers_of(answer)
    chosen = address.value("layer")
    return chosen if chosen in layers else next(iter(layers))


def choose_layer(answer: Answer) -> str:
    """The same, to be chosen here."""
    layer = address.remember("layer", list(layers_of(answer)), current_layer(answer))
    # A filter is one of its layer.
    st.selectbox("Layer", list(layers_of(answer)), key="layer", on_change=address.drop, args=("filter",))
    return layer


def current_expert(experts: int) -> int | None:
    """The expert that this tab looks at, counted from 0; None if it has chosen none that the layer has."""
    chosen = address.value("expert") or ""
    return int(chosen) - 1 if chosen.isdecimal() and 1 <= int(chosen) <= experts else None


def select(layer: str, expert: int | None = None) -> None:
    """Look at a layer, and an expert (from 0) of it, on all pages. From a callback, or before `choose_layer`."""
    address.drop("layer", "filter")
    address.put(layer=layer, expert=None if expert is None else str(expert + 1))


def select_cell(answer: Answer, key: str) -> None:
    """A click on a cell of the `charts.routing_heatmap` of that key chooses its router's first layer and its expert."""
    points = st.session_state[key]["selection"]["points"]
    if points:
        select(answer.routing[int(points[0]["customdata"][0])].layers[0], int(points[0]["customdata"][4]) - 1)


def is_static(answer: Answer) -> bool:
    """Whether there is nothing to route, which the page then says."""
    if not answer.routing:
        st.info(
            "This network is static: each layer has one kernel for every picture, so there is nothing to route. "
            "Choose one with experts above."
        )
    return not answer.routing


def link(page: str, label: str) -> None:
    """A way to another page by its path, which shows the same model, pictures, layer and expert."""
    # Not st.page_link, whose click is lost if a chart tells of a selection before the other page has come.
    if st.button(label, type="tertiary", icon=":material/arrow_forward:", key=f"to {page}"):
        st.switch_page(st.session_state["pages"][page])
