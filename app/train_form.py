"""The form for a new training: what on, which network, how, how long it will take."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from condconv_mlx.app import models, train_data, train_estimate
from condconv_mlx.app.choices import DATASETS, title
from condconv_mlx.app.models import Card, Published
from condconv_mlx.app.parts import escape, sentence
from condconv_mlx.app.train_advanced import KEEP, advanced
from condconv_mlx.app.train_plan import RECIPES, Plan, command_line
from condconv_mlx.app.tray import FOLDER
from condconv_mlx.data import FILES, DataError
from condconv_mlx.durations import roughly
from condconv_mlx.models import list_models
from condconv_mlx.runs import process as runs_process
from condconv_mlx.runs.finding import Run

# 0 is the static network.
EXPERTS = (0, 2, 4, 8, 16, 32)
# Seconds between two looks at a measuring.
POLL = 0.5
# Seconds in which a second press of Start is taken for a slip.
SLIP = 3


@dataclass(frozen=True)
class Network:
    """What is to be trained.

    Attributes:
        options: that say so on the command line.
        name: of the network, in a word.
        experts: of each layer, None for a static network.
        fetched: what has to be downloaded first, in words, or "".
    """

    options: dict[str, Any]
    name: str
    experts: int | None
    fetched: str = ""


@st.fragment
def form(runs: list[Run]) -> None:
    """All of it; starts the training, too."""
    if problem := st.session_state.pop("train problem", None):
        st.error(escape(problem))
    recipe = st.segmented_control(
        "Recipe",
        list(RECIPES),
        default="quick",
        format_func=lambda key: RECIPES[key].title,
        required=True,
        key="recipe",
        **KEEP,
    )
    assert recipe is not None  # one is required
    st.caption(RECIPES[recipe].what)
    places = st.columns(4, vertical_alignment="bottom")
    data, fetched = choose_data(runs, places[0])
    network = choose_start(data, places[1], places[2]) if RECIPES[recipe].starts else choose_network(*places[1:3])
    with places[3]:
        epochs = st.number_input(
            "Epochs",
            1,
            1000,
            RECIPES[recipe].options["epochs"],
            key=f"train epochs {recipe}",
            **KEEP,
            help="How often all images are seen.",
        )
    if data is None or network is None:
        return
    options = {"data": data, **network.options, "epochs": epochs, **advanced(recipe, data, network.options)}
    plan = Plan(options, network.name, network.experts)
    launch(plan, [line for line in (fetched, network.fetched) if line], runs)


def choose_data(runs: list[Run], place: DeltaGenerator) -> tuple[str | None, str]:
    """The data set as the command line has it, None if there is none yet; and what will be downloaded for it."""
    with place:
        name = st.selectbox(
            "Images",
            [*FILES, FOLDER],
            key="train on",
            format_func=lambda name: DATASETS.get(name, name),
            **KEEP,
        )
    if name != FOLDER:
        if train_data.is_here(name):
            return name, ""
        return name, f"{DATASETS[name]} are not on this machine yet: {FILES[name].size / train_data.MEGABYTE:.0f} MB"
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=False):
        path = st.text_input(
            "Path, of a folder or zip",
            key="train path",
            placeholder="~/Pictures/birds",
            help="One sub-folder for each class, with its pictures in it.",
            **KEEP,
        )
        with st.popover("Upload", icon=":material/upload:"):
            upload(runs)
    if not path.strip():
        st.info("Say above where the pictures are, or upload a zip of them.")
        return None, ""
    try:
        st.caption(train_data.describe(path))
    except (DataError, OSError) as error:
        st.error(escape(sentence(str(error))))
        return None, ""
    return f"folder:{train_data.absolute(path)}", ""


def upload(runs: list[Run]) -> None:
    """A zip from the browser, which is kept until no run needs it."""

    def arrived() -> None:
        file = st.session_state["train zip"]
        if file is None:
            return
        try:
            st.session_state["train path"] = str(train_data.keep_upload(file.getvalue(), file.name))
        except (DataError, OSError) as error:
            st.session_state["train problem"] = sentence(str(error))

    st.file_uploader(
        "A zip with a folder for each class",
        "zip",
        key="train zip",
        on_change=arrived,
        max_upload_size=train_data.MOST_UPLOAD,
    )
    kept = train_data.unused_uploads(runs)
    if kept:
        size = sum(path.stat().st_size for path in kept) / train_data.MEGABYTE
        st.button(
            f"Remove {len(kept)} that no run was trained on ({size:,.1f} MB)",
            type="tertiary",
            on_click=train_data.remove_uploads,
            args=(kept,),
            key="remove uploads",
        )


def choose_network(left: DeltaGenerator, right: DeltaGenerator) -> Network:
    """A fresh network."""
    with left:
        name = st.selectbox(
            "Network",
            list_models(),
            key="train network",
            **KEEP,
            help="condconv_small is made for images of 28 to 64 pixels, the others for larger ones.",
        )
    with right:
        experts = st.selectbox(
            "Experts of each layer",
            EXPERTS,
            index=EXPERTS.index(8),
            key="train experts",
            **KEEP,
            format_func=lambda count: f"{count}" if count else "none (static)",
            help="Without any, it is the ordinary network, to compare with.",
        )
    return Network({"model": name, "experts": experts or None}, name, experts or None)


def choose_start(data: str | None, left: DeltaGenerator, right: DeltaGenerator) -> Network | None:
    """A trained network to begin with, None if there is none for these images."""
    candidates: dict[str, Card | Published] = {}
    known = None if data is None or data.startswith("folder:") else FILES[data].shape[1:]
    published = models.published()
    for name in models.names():
        if name in published:
            candidates |= {} if known else {name: published[name]}
            continue
        try:
            card = models.describe(name)
        except ValueError:
            continue
        if known in (None, (card.size, card.channels)):
            candidates[name] = card
    if not candidates:
        st.info("No trained network here takes such images. Choose another recipe, or other images.")
        return None
    with left:
        name = st.selectbox(
            "Begin with",
            list(candidates),
            key="train from",
            format_func=lambda name: title(candidates[name]),
            **KEEP,
            help="If it knows other classes, its classifier is made anew.",
        )
    with right:
        freeze = st.selectbox(
            "Train",
            (True, False),
            key="train freeze",
            format_func=lambda alone: "its classifier" if alone else "all of it",
            help="The classifier alone is faster, and safer with few pictures.",
            **KEEP,
        )
    options: dict[str, Any] = {"start": name, "freeze": freeze}
    start = candidates[name]
    if isinstance(start, Card) or start.here:
        return Network(options, start.network, start.num_experts)
    fetched = f"{start.network} is not on this machine yet: {start.megabytes} MB from {start.source}"
    return Network(options | {"yes": True}, start.network, start.num_experts, fetched)


def launch(plan: Plan, downloads: list[str], runs: list[Run]) -> None:
    """Name it, say how long it will take, and start it."""
    folder = models.run_folders()[-1]
    usual = runs_process.free_name(folder, plan.name)
    for line in downloads:
        st.info(f"{escape(line)} will be downloaded when you press **Start**.", icon=":material/download:")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        typed = st.text_input("Name", key="train name", placeholder=usual, max_chars=80, width=300).strip()
        begun = st.button("Start", type="primary", icon=":material/play_arrow:", key="train start")
        st.button(
            "How long will it take?",
            icon=":material/timer:",
            key="train estimate",
            on_click=train_estimate.start,
            args=(plan.timed,),
            # It would have to be downloaded.
            disabled="yes" in plan.options,
        )
        measuring = train_estimate.known(plan.timed)
        waiting = measuring is not None and not measuring.over
        beside = any(run.under_way for run in runs)
        st.fragment(show_pace, run_every=POLL if waiting else None)(plan, waiting, beside)
    name = typed or usual
    try:
        runs_process.check_name(name)
    except ValueError as error:
        st.error(escape(sentence(str(error))))
        return
    free = runs_process.free_name(folder, name)
    if free != name:
        st.caption(f"There is a run of that name, so this one is called **{escape(free)}**.")
    st.code(command_line(plan.arguments, folder / free), "sh", wrap_lines=True)
    if begun:
        begin(folder, name, plan)


def show_pace(plan: Plan, waiting: bool, beside: bool) -> None:
    """How long it will take: a fragment, which looks again and again while it is measured (`waiting`).

    `beside`: whether another training goes on.
    """
    measuring = train_estimate.known(plan.timed)
    if measuring is None:
        return
    if not measuring.over:
        seconds = time.monotonic() - measuring.begun
        st.markdown(f":material/hourglass_top: Measuring a few steps … {seconds:.0f} s", width="content")
    elif waiting:
        st.rerun()
    elif measuring.pace is None:
        st.error(escape(sentence(measuring.problem)))
    else:
        st.markdown(spoken(measuring.pace, plan.options["epochs"], beside), width="content")


def spoken(pace: train_estimate.Pace, epochs: float, beside: bool) -> str:
    """The sentence for it."""
    where = "measured here" + ", beside the training that goes on" * beside
    return f"**About {roughly(pace.seconds(epochs))}**: {pace.images_per_second:,.0f} images a second, {where}"


def begin(folder: Path, name: str, plan: Plan) -> None:
    """Start the process, and look at its run."""
    last = st.session_state.get("train begun", ((), 0.0))
    if last[0] == plan.arguments and time.monotonic() - last[1] < SLIP:
        st.rerun()
    try:
        path = runs_process.start(folder, name, plan.arguments, plan.settings)
    except (ValueError, OSError) as error:
        st.error(escape(sentence(f"The training could not be started: {error}")))
        return
    st.session_state["train begun"] = (plan.arguments, time.monotonic())
    st.session_state["train begin"] = str(path)
    st.rerun()
