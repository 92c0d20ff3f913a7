"""The choices at the top of a page: a model, pictures of the user's own, the picture to look at."""

from collections.abc import Sequence

import streamlit as st

from condconv_mlx.app import downloads, engine
from condconv_mlx.app.downloads import MEGABYTE, Download
from condconv_mlx.app.engine import Card, Published
from condconv_mlx.app.parts import MANY, escape, in_address, remember, scrolling, shortened
from condconv_mlx.app.pictures import Picture, uploaded
from condconv_mlx.charts import percent
from condconv_mlx.data import ImageError

DATASETS = {
    "cifar10": "CIFAR-10 photos",
    "cifar100": "CIFAR-100 photos",
    "mnist": "MNIST digits",
    "fashion_mnist": "Fashion-MNIST garments",
    "imagenet": "ImageNet photos",
}
TYPES = ["png", "jpg", "jpeg", "webp", "gif", "heic", "heif", "bmp", "tif", "tiff", "avif"]
# Of more classes than this, a few stand for all.
NAMED = 30
EXAMPLES = 5
# Seconds between two looks at a download.
POLL = 0.3
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
# The pictures in the labels are as small as letters otherwise.
STYLE = """<style>
.st-key-image button {height: auto; padding: .2rem .75rem .2rem .2rem; border-radius: .6rem}
.st-key-image button img {width: 2.25rem; height: 2.25rem; max-height: none; margin-right: .25rem; border-radius: .4rem}
</style>"""


def choose_model() -> Card:
    """The model to look at, whose weights are here. Ends the page if there is none that can be used."""
    with st.spinner("Loading the models …"):
        published = engine.published()
        cards: dict[str, Card] = {}
        broken = []
        for name in engine.models():
            if name in published:
                continue
            try:
                cards[name] = engine.describe(name)
            except ValueError as error:
                broken.append(str(error))
    for message in broken:
        st.error(escape(message))
    if not cards:
        st.error("There are no weights to show. Train a network with `condconv-mlx train`, or install this again.")
        st.stop()
    choices = cards | published
    remember("model", list(choices), next(iter(cards)))
    name = st.selectbox("Model", list(choices), format_func=lambda name: title(choices[name]), key="model")
    card = cards.get(name) or fetched(published[name])
    right = "" if card.accuracy is None else f" Right for {percent(card.accuracy)} of {card.measured_on}."
    st.caption(escape(f"{knows(card.labels)} Whatever it sees, it answers with one of them.{right}"))
    return card


def title(model: Card | Published) -> str:
    """A model in a few words: data set, network where it is a known one, experts, and what is yet to be fetched."""
    words = [DATASETS.get(model.dataset, model.dataset)]
    if isinstance(model, Published):
        words.append(model.network)
    words.append("static" if model.num_experts is None else f"{model.num_experts} experts")
    if isinstance(model, Published) and not model.here:
        words.append(f"↓ {model.megabytes} MB")
    return " · ".join(words)


def knows(labels: Sequence[str]) -> str:
    """A sentence with the classes: all of a few, some of many."""
    count = NUMBERS[len(labels)] if len(labels) < len(NUMBERS) else f"{len(labels):,}"
    some, last = labels[:-1], labels[-1]
    if len(labels) > NAMED:
        some = [labels[i * len(labels) // EXAMPLES] for i in range(EXAMPLES)]
        last = f"{len(labels) - EXAMPLES:,} more"
    return f"Knows {count} things: {', '.join(some)} and {last}."


def fetched(model: Published) -> Card:
    """What published weights say of themselves. Ends the page until they are here."""
    # The page ends before its end, where this is done for all others.
    in_address(model=model.name)
    if not model.here:
        offer(model)
        st.stop()
    try:
        with st.spinner("Loading the model …"):
            return engine.describe(model.name)
    except ValueError as error:
        st.error(escape(str(error)))
        st.stop()


def offer(model: Published) -> None:
    """Ask before anything is downloaded, show how far it is, and run the page again when it is here."""
    from condconv_mlx.convert import HubError

    mine: dict[str, Download] = st.session_state.setdefault("downloads", {})

    def start() -> None:
        mine[model.name] = downloads.start(model.name, model.megabytes)

    st.markdown(
        f"The weights are not on this machine yet: {model.megabytes} MB from "
        f"[{escape(model.source)}](https://{model.source}), published by timm."
    )
    download = downloads.running(model.name) or mine.get(model.name)
    under_way = download is not None and not download.over
    label = f"Download {model.megabytes} MB"
    st.button(label, on_click=start, disabled=under_way, icon=":material/download:", key="download")
    if download is None:
        return
    try:
        follow(download)
    except HubError as error:
        if not under_way:
            st.error(escape(f"The download failed: {error.reason}. Try again when the hub can be reached."))
            return
        # For the button, which can be pressed again; the error comes with it.
        mine[model.name] = download
    else:
        mine.pop(model.name, None)
    st.rerun()


def follow(download: Download) -> None:
    """A bar until it is over. Raises HubError if it failed."""
    bar = st.empty()
    while not download.wait(POLL):
        share = download.done / download.total
        megabytes = f"{download.done / MEGABYTE:.0f} of {download.total / MEGABYTE:.0f} MB"
        bar.progress(share, f"{megabytes} · {100 * share:.0f} %")


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
