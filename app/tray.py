"""The tray: the pictures that all pages look at, and how more get into it."""

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import streamlit as st

from condconv_mlx.app import address, store
from condconv_mlx.app.models import Card
from condconv_mlx.app.parts import escape, tell
from condconv_mlx.app.pictures import Picture, image_of, kept, samples
from condconv_mlx.app.store import Entry, Tray
from condconv_mlx.data import DataError, Dataset, ImageError, list_datasets, load_dataset

TYPES = ["png", "jpg", "jpeg", "webp", "gif", "heic", "heif", "bmp", "tif", "tiff", "avif"]
FOLDER = "a folder or zip of mine"
# Of a data set at once.
MOST = 200
MEGABYTE = 10**6
# A strip of small pictures in one line that can be pushed aside.
STYLE = """<style>
[class*=st-key-strip-] [role=radiogroup] {flex-wrap: nowrap; overflow-x: auto; scrollbar-width: thin;
    padding-bottom: .25rem}
[class*=st-key-strip-] button {height: auto; flex: none; padding: 3px; border-radius: .6rem; min-width: 0}
[class*=st-key-strip-] button img {width: 3rem; height: 3rem; max-height: none; border-radius: .4rem; margin: 0;
    display: block}
</style>"""


def pictures(card: Card) -> list[Picture]:
    """Those of the tray, and the samples of the model's data set after them. Never empty."""
    tray = current()
    mine = [kept(entry) for entry in tray.entries]
    return mine + list(samples(card.dataset)) if tray.samples or not mine else mine


def current() -> Tray:
    """The tray of this tab."""
    return store.load_tray(address.value("tray") or "") or Tray()


def arrive() -> None:
    """Before anything is drawn: put into the tray what `add_dataset` has found, and leave a tray that is not here."""
    _tidy()
    if entries := st.session_state.pop("arrived", None):
        tell()
        put(entries)
    if store.load_tray(address.value("tray") or "") is None:
        tell("The pictures of this link are not on this machine any more, so here are the samples.")
        address.put(tray=None)


def choose_picture(card: Card) -> tuple[list[Picture], int]:
    """All pictures, and the index of the one to look at."""
    st.html(STYLE)
    found = pictures(card)
    by_id = {picture.id: picture for picture in found}
    address.remember("image", list(by_id), found[0].id)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        with st.popover("Add", icon=":material/add_photo_alternate:", key="adding", on_change="rerun") as adding:
            if adding.open:
                add()
        strip("Picture", found, "image")
    return found, list(by_id).index(st.session_state["image"])


def strip(label: str, found: list[Picture], key: str) -> None:
    """Small pictures in a line, one of which is chosen: the widget of that key has its id. Under `STYLE`."""
    by_id = {picture.id: picture for picture in found}
    with st.container(key=f"strip-{key}"):
        st.pills(
            label,
            list(by_id),
            format_func=lambda id: f"![{escape(by_id[id].title)}]({by_id[id].thumbnail})",
            required=True,
            key=key,
            label_visibility="collapsed",
        )


def add() -> None:
    """Ways to bring pictures, and to get rid of them."""
    turn = st.session_state.setdefault("turn", 0)

    def from_files() -> None:
        files = st.session_state[f"files {turn}"]
        if files:
            bring((file.name, file.getvalue()) for file in files)

    def from_camera() -> None:
        photo = st.session_state[f"camera {turn}"]
        if photo:
            bring([("photo.jpg", photo.getvalue())])

    how = st.segmented_control(
        "From",
        ["Files", "Camera", "Data set"],
        default="Files",
        required=True,
        key="source",
        label_visibility="collapsed",
    )
    if how == "Files":
        st.file_uploader(
            "Your pictures",
            TYPES,
            accept_multiple_files=True,
            key=f"files {turn}",
            on_change=from_files,
            label_visibility="collapsed",
        )
    elif how == "Camera":
        st.camera_input("Photo", key=f"camera {turn}", on_change=from_camera, label_visibility="collapsed")
    else:
        add_dataset()
    housekeeping()


def bring(files: Iterable[tuple[str, bytes]]) -> None:
    """Put pictures into the tray, and say which files are none."""
    files = list(files)
    bar = st.progress(0.0)
    entries: list[Entry] = []
    problems: list[str] = []

    def one(file: tuple[str, bytes]) -> Entry | str:
        name, data = file
        try:
            return Entry(store.add_picture(data, name), name)
        except ImageError as error:
            return str(error)

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for i, result in enumerate(pool.map(one, files)):
                bar.progress((i + 1) / len(files), f"Reading {i + 1} of {len(files)}")
                if isinstance(result, Entry):
                    entries.append(result)
                else:
                    problems.append(result)
    except OSError as error:
        problems.append(f"Pictures cannot be kept on this machine: {error}.")
    # It would stay until something else is clicked.
    bar.empty()
    tell(*problems)
    put(entries)


def put(entries: list[Entry]) -> None:
    """Entries to the front of the tray; the first of them is looked at."""
    st.session_state["turn"] = st.session_state.get("turn", 0) + 1
    if not entries:
        return
    st.session_state["adding"] = False
    tray = current()
    entries = list({entry.id: entry for entry in entries}.values())
    new = {entry.id for entry in entries}
    change(Tray((*entries, *(entry for entry in tray.entries if entry.id not in new)), tray.samples))
    choose(entries[0].id)
    store.trim()


def choose(id: str) -> None:
    """Look at a picture. From a callback, or before `choose_picture` has drawn the strip."""
    st.session_state["image"] = id
    address.put(image=id)


def change(tray: Tray) -> None:
    """Have another tray in this tab."""
    address.put(tray=store.save_tray(tray) or None)


def add_dataset() -> None:
    """Images of a data set's test split, as many of each class."""
    name = st.selectbox("Data set", [*list_datasets(), FOLDER], key="dataset name")
    path = ""
    if name == FOLDER:
        path = st.text_input("Path of the folder or zip", key="dataset path", placeholder="~/Pictures/birds")
    count = st.number_input("Images", 1, MOST, 50, key="dataset count")
    asked = st.button("Add", type="primary", key="add dataset")
    st.caption("Test images, as many of each class. A known data set is downloaded when it is first used.")
    if not asked:
        return
    try:
        with st.spinner("Loading the data set …"):
            data = dataset(f"folder:{path.strip()}" if name == FOLDER else name)
            entries = [entry_of(data, int(n)) for n in spread(data.test_labels, int(count))]
    except (DataError, OSError) as error:
        st.error(escape(str(error)))
        return
    st.session_state["arrived"] = entries
    st.rerun()


def spread(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` images with as many of each class as can be, class after class."""
    order = np.argsort(labels, kind="stable")
    # The how-manieth of its class each is.
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.arange(len(order)) - starts
    chosen = order[np.argsort(rank, kind="stable")[:count]]
    return chosen[np.argsort(labels[chosen], kind="stable")]


@cache
def _tidy() -> None:
    """Once in the life of the app: nobody can undo any more what was cleared in an earlier one."""
    store.forget()


@st.cache_resource(max_entries=2, show_spinner=False)
def dataset(spec: str) -> Dataset:
    """A data set, shared by all tabs."""
    return load_dataset(spec, progress=False)


def entry_of(data: Dataset, n: int) -> Entry:
    """The n-th test image, kept as a picture."""
    file = io.BytesIO()
    image_of(data.test_images[n]).save(file, "PNG", compress_level=1)
    label = data.labels[int(data.test_labels[n])]
    return Entry(store.add_picture(file.getvalue(), label), f"{label} {n + 1}", label)


def housekeeping() -> None:
    """What is in the tray, what is kept on this machine, and how to get rid of it."""
    tray = current()

    def with_samples() -> None:
        change(Tray(tray.entries, st.session_state["samples"]))

    def start_over() -> None:
        change(Tray())

    def clear() -> None:
        store.clear()
        st.session_state["cleared"] = True
        change(Tray())

    def undo() -> None:
        store.restore()
        st.session_state["cleared"] = False

    st.session_state["samples"] = tray.samples
    st.toggle("Samples too", key="samples", on_change=with_samples, disabled=not tray.entries)
    count, total = store.size()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Empty the tray", on_click=start_over, disabled=not tray.entries, type="tertiary", key="empty")
        if st.session_state.get("cleared"):
            st.button("Undo clearing", on_click=undo, icon=":material/undo:", type="tertiary", key="undo")
        else:
            st.button("Clear what is kept", on_click=clear, disabled=not count, type="tertiary", key="clear")
    st.caption(f"{len(tray.entries)} in the tray. Kept on this machine: {count:,} files, {total / MEGABYTE:,.1f} MB.")
