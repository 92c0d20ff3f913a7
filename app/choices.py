"""The choice of a model at the top of a page."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import streamlit as st

from condconv_mlx.app import address, downloads, models, store
from condconv_mlx.app.downloads import MEGABYTE, Download
from condconv_mlx.app.models import BEST, Card, Published
from condconv_mlx.app.parts import escape, tell

DATASETS = {
    "cifar10": "CIFAR-10 photos",
    "cifar100": "CIFAR-100 photos",
    "mnist": "MNIST digits",
    "fashion_mnist": "Fashion-MNIST garments",
    "imagenet": "ImageNet photos",
}
# Of more classes than this, a few stand for all.
NAMED = 30
EXAMPLES = 5
# Seconds between two looks at a download.
POLL = 0.3
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def choose_model(key: str = "model", label: str = "Model", beside: Card | None = None) -> Card:
    """The model to look at, whose weights are here. Ends the page if there is none that can be used.

    Args:
        key: tells choices apart where a page has several; it is also the one in the address.
        label: for who cannot see it.
        beside: the model to compare it with, which cannot be chosen; at first the one that is most like it is.
    """
    published = models.published()
    cards: dict[str, Card] = {}
    opened = address.value(key)
    for name in dict.fromkeys([*models.names(), *([opened] if opened and Path(opened).is_file() else [])]):
        if name in published:
            continue
        try:
            cards[name] = models.describe(name)
        except ValueError as error:
            st.error(escape(str(error)))
    choices: dict[str, Card | Published] = cards | published
    if not cards:
        st.error("There are no weights to show. Train a network with `condconv-mlx train`, or install this again.")
        st.stop()
    first = next(iter(cards))
    if beside:
        choices.pop(beside.name, None)
        first = twin(beside, cards.values()) or next(iter(choices))
    address.remember(key, list(choices), first)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        name = st.selectbox(
            label,
            list(choices),
            format_func=lambda name: title(choices[name]),
            key=key,
            label_visibility="collapsed",
        )
        with st.popover("", icon=":material/folder_open:", help="Open weights from a file", key=f"open {key}"):
            open_file(key)
    address.put(**{key: name})
    return cards.get(name) or fetched(published[name])


def twin(card: Card, others: Iterable[Card]) -> str | None:
    """The name of the model that is most like another but for its experts; None if there is no other."""

    def unlike(one: Card) -> tuple[bool, ...]:
        alike = [one.labels == card.labels, one.dataset == card.dataset, one.network == card.network]
        return (*[not same for same in alike], one.size != card.size, one.num_experts == card.num_experts)

    found = min((one for one in others if one.name != card.name), key=unlike, default=None)
    return found.name if found else None


def open_file(key: str) -> None:
    """Weights of the user's own, by their path or as an upload."""

    def by_path() -> None:
        path = st.session_state[f"path {key}"]
        if path:
            attempt(lambda: models.find(path))

    def by_upload() -> None:
        file = st.session_state[f"weights {key}"]
        if file:
            attempt(lambda: str(store.add_model(file.getvalue(), file.name)))

    def attempt(find: Callable[[], str]) -> None:
        try:
            name = find()
            models.describe(name)
        except (OSError, ValueError) as error:
            tell(str(error))
        else:
            address.drop(key)
            address.put(**{key: name})

    st.text_input(
        "Path of a .safetensors file, or of a run's folder",
        key=f"path {key}",
        on_change=by_path,
        placeholder="runs/birds",
    )
    st.file_uploader("or the file itself", ["safetensors"], key=f"weights {key}", on_change=by_upload)


def title(model: Card | Published) -> str:
    """A model in a few words: data set, network where it is a known one, experts, and what is yet to be fetched."""
    words = [DATASETS.get(model.dataset, model.dataset)]
    if isinstance(model, Published) or model.network != "condconv_small":
        words.append(model.network)
    words.append("static" if model.num_experts is None else f"{model.num_experts} experts")
    if isinstance(model, Published):
        words += [] if model.here else [f"↓ {model.megabytes} MB"]
    elif Path(model.name).suffix:
        file = Path(model.name)
        words.insert(0, file.parent.name if file.name == BEST else file.stem)
    return " · ".join(filter(None, words))


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
    if not model.here:
        offer(model)
        st.stop()
    try:
        with st.spinner("Loading the model …"):
            return models.describe(model.name)
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
