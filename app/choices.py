"""The choices at the top of a page: a model, pictures of the user's own, the picture to look at."""

import streamlit as st

from condconv_mlx.app import engine
from condconv_mlx.app.engine import Card
from condconv_mlx.app.parts import MANY, escape, remember, scrolling, shortened
from condconv_mlx.app.pictures import Picture, uploaded
from condconv_mlx.charts import percent
from condconv_mlx.data import ImageError

DATASETS = {"cifar10": "CIFAR-10 photos", "fashion_mnist": "Fashion-MNIST garments"}
TYPES = ["png", "jpg", "jpeg", "webp", "gif", "heic", "heif", "bmp", "tif", "tiff", "avif"]
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
# The pictures in the labels are as small as letters otherwise.
STYLE = """<style>
.st-key-image button {height: auto; padding: .2rem .75rem .2rem .2rem; border-radius: .6rem}
.st-key-image button img {width: 2.25rem; height: 2.25rem; max-height: none; margin-right: .25rem; border-radius: .4rem}
</style>"""


def choose_model() -> Card:
    """The model to look at. Ends the page if there is none that can be used."""
    with st.spinner("Loading the models …"):
        cards: dict[str, Card] = {}
        broken = []
        for name in engine.models():
            try:
                cards[name] = engine.describe(name)
            except ValueError as error:
                broken.append(str(error))
    for message in broken:
        st.error(escape(message))
    if not cards:
        st.error("There are no weights to show. Train a network with `condconv-mlx train`, or install this again.")
        st.stop()
    remember("model", list(cards), next(iter(cards)))
    card = cards[st.selectbox("Model", list(cards), format_func=lambda name: title(cards[name]), key="model")]
    known = ", ".join(card.labels[:-1]) + " and " + card.labels[-1]
    count = NUMBERS[len(card.labels)] if len(card.labels) < len(NUMBERS) else len(card.labels)
    right = "" if card.accuracy is None else f" Right for {percent(card.accuracy)} of {card.measured_on}."
    st.caption(escape(f"Knows {count} things: {known}. Whatever it sees, it answers with one of them.{right}"))
    return card


def title(card: Card) -> str:
    """A model in a few words: data set and experts."""
    experts = "static" if card.num_experts is None else f"{card.num_experts} experts"
    return f"{DATASETS.get(card.dataset, card.dataset)} · {experts}"


def upload() -> tuple[list[Picture], list[str]]:
    """The user's own pictures, and a sentence for each file that is none."""
    files = st.file_uploader("Your pictures", TYPES, accept_multiple_files=True, key="files")
    known: dict[str, Picture | str] = st.session_state.setdefault("uploads", {})
    for gone in known.keys() - {file.file_id for file in files}:
        del known[gone]
    new = [file for file in files if file.file_id not in known]
    if new:
        bar = st.progress(0.0)
        for i, file in enumerate(new):
            bar.progress(i / len(new), f"Reading {i + 1} of {len(new)}")
            try:
                known[file.file_id] = uploaded(file.file_id, file.name, file.getvalue())
            except ImageError as error:
                known[file.file_id] = str(error)
        bar.empty()
        first = next((file.file_id for file in new if isinstance(known[file.file_id], Picture)), None)
        if first:
            st.session_state["image"] = first
    entries = list(known.values())
    return [entry for entry in entries if isinstance(entry, Picture)], [e for e in entries if isinstance(e, str)]


def choose_picture(pictures: list[Picture]) -> int:
    """The index of the picture to look at."""
    st.html(STYLE)
    by_id = {picture.id: picture for picture in pictures}
    remember("image", list(by_id), pictures[0].id)
    with scrolling(230 if len(pictures) > MANY else None):
        st.pills(
            "Picture",
            list(by_id),
            format_func=lambda id: f"![]({by_id[id].thumbnail}) {escape(shortened(by_id[id].title))}",
            required=True,
            key="image",
            label_visibility="collapsed",
        )
    return list(by_id).index(st.session_state["image"])
