"""One training run: where it stands in a few words, and what can be done with it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from condconv_mlx.app import address, train_data
from condconv_mlx.app.choices import DATASETS
from condconv_mlx.app.parts import escape, rounded, sentence
from condconv_mlx.caches import size_below
from condconv_mlx.data import FILES
from condconv_mlx.durations import duration, roughly
from condconv_mlx.runs import process as runs_process
from condconv_mlx.runs.finding import BEST, SETTINGS, Run, delete
from condconv_mlx.runs.health import ADVICE, concerns
from condconv_mlx.training.run_folder import STATE

# What each state is called, and its colour.
STATES = {
    "starting": ("starting", "blue"),
    "running": ("training", "blue"),
    "ending": ("being tested", "blue"),
    "finished": ("finished", "green"),
    "stopped": ("stopped", "gray"),
    "failed": ("failed", "red"),
}
MORE = 10  # epochs, for the first


def card(run: Run, runs: list[Run]) -> None:
    """The run, in a box of its own. `runs`: all that there are."""
    word, colour = STATES[run.status.state]
    with st.container(border=True, key=f"run {run.path}"):
        st.markdown(f"**{escape(run.name)}** &nbsp; :{colour}-badge[{word}]")
        st.caption(escape(" · ".join(filter(None, facts(run)))))
        if run.under_way:
            progress(run)
        told(run)
        with st.container(horizontal=True, vertical_alignment="center"):
            actions(run, runs)


def facts(run: Run) -> list[str]:
    """What it is, and how good."""
    best = f" (epoch {run.best_epoch})" if run.best_epoch else ""
    return [
        run.network,
        images(run),
        f"epoch {run.epochs}",
        "" if run.held_out_accuracy is None else f"held out {rounded(run.held_out_accuracy, 1)}{best}",
        "" if run.test_accuracy is None else f"test images {rounded(run.test_accuracy, 1)}",
        f"{duration(run.seconds)} of training" if run.seconds else "",
    ]


def images(run: Run) -> str:
    """What it was trained on, in words."""
    place = train_data.place_of(run)
    return DATASETS.get(place, place)


def progress(run: Run) -> None:
    """A bar, with what is being done and how long that will take."""
    status = run.status
    if stopping(run):
        st.progress(share(run), "Stopping after this step …")
    elif status.state == "ending":
        st.progress(1.0, "Measuring the best epoch on the test images …")
    elif status.state == "starting" or not run.log.start:
        loading(run)
    else:
        left = run.seconds_left
        words = [
            f"step {status.step:,} of {status.steps:,}",
            f"{run.log.steps[-1]['images_per_second']:,.0f} images a second" if paced(run) else "",
            "" if left is None else f"about {roughly(left)} left",
        ]
        st.progress(share(run), " · ".join(filter(None, words)))


def loading(run: Run) -> None:
    """What happens before the first step."""
    data = run.settings["data"]
    if data in FILES and not train_data.is_here(data):
        done, total = train_data.downloaded(data), FILES[data].size / train_data.MEGABYTE
        st.progress(done, f"Downloading {DATASETS[data]}: {done * total:.0f} of {total:.0f} MB")
    else:
        st.progress(share(run), "Loading the images …")


def share(run: Run) -> float:
    """Of the steps that are done."""
    return min(run.status.step / run.status.steps, 1.0) if run.status.steps else 0.0


def paced(run: Run) -> bool:
    """Whether the log tells how many images a second there are."""
    return bool(run.log.steps) and "images_per_second" in run.log.steps[-1]


def told(run: Run) -> None:
    """What went wrong, and what to do about it."""
    state, message = run.status.state, sentence(run.status.message)
    # What diverged would do so again.
    diverged = (run.log.end or {}).get("reason") == "diverged"
    again = " **Go on** continues from its last checkpoint." if can_go_on(run) and not diverged else ""
    if state == "failed" and not (run.path / SETTINGS).exists():
        st.error(f"It did not start. {escape(message)}")
    elif state == "failed":
        st.error(f"{escape(message) or 'It failed without a word.'}{again}")
    elif state == "stopped" and run.log.end is None:
        st.warning(f"It ended without a word: it was killed, or the machine went down or ran out of memory.{again}")
    elif state == "finished" and message:
        st.warning(escape(message))
    if found := concerns(run):
        st.warning(escape(" ".join([*found, ADVICE])), icon=":material/warning:")


def actions(run: Run, runs: list[Run]) -> None:
    """Stop, go on, open, delete."""
    path = run.path
    button: Callable[..., bool] = partial(st.button, type="tertiary")
    if run.under_way:
        button("Stop", icon=":material/stop:", key=f"stop {path}", on_click=stop, args=(run,), disabled=stopping(run))
    elif can_go_on(run):
        if run.status.state != "finished":
            button("Go on", icon=":material/play_arrow:", key=f"resume {path}", on_click=resume, args=(path,))
        if run.status.state != "failed":
            with st.popover("More epochs", icon=":material/add:", type="tertiary", key=f"more {path}"):
                more(run)
    elif runs_process.started(path) is not None:
        button("Try again", icon=":material/replay:", key=f"again {path}", on_click=again, args=(path,))
    if (path / BEST).exists():
        if button("Open on Route", icon=":material/arrow_forward:", key=f"open {path}"):
            # Chosen anew: the widget may still have the one before.
            address.drop("model")
            address.put(model=str(path / BEST))
            st.switch_page(st.session_state["pages"][""])
    if not run.under_way:
        with st.popover("Delete", icon=":material/delete:", type="tertiary", key=f"ask {path}"):
            ask(run, runs)


def more(run: Run) -> None:
    """For how long to go on."""
    done, total = run.status.epoch, run.settings.get("training.epochs", 0)
    key = f"epochs {run.path}"
    first = max(int(total), done) + MORE if run.status.state == "finished" else max(int(total), done + 1)
    epochs = st.number_input("Epochs in all", done + 1, None, first, 1, key=key)
    st.button("Train on", type="primary", key=f"train on {run.path}", on_click=resume, args=(run.path, epochs))
    st.caption("The learning rate is that of a run of this length, so it rises first.")


def ask(run: Run, runs: list[Run]) -> None:
    """The question before a run is deleted."""
    mine = [path for path in train_data.unused_uploads([other for other in runs if other.path != run.path])]
    zips = [path for path in mine if str(path) == train_data.place_of(run)]
    size = (size_below(run.path) + sum(path.stat().st_size for path in zips)) / train_data.MEGABYTE
    with_zip = ", with its zip of pictures" if zips else ""
    st.markdown(f"Delete **{escape(run.name)}**{with_zip}? That frees {size:,.1f} MB and cannot be undone.")
    st.button("Delete it", type="primary", key=f"delete {run.path}", on_click=remove, args=(run, zips))


def can_go_on(run: Run) -> bool:
    """Whether there is a checkpoint."""
    return (run.path / STATE).exists() and (run.path / SETTINGS).exists()


def stop(run: Run) -> None:
    """Ask it to save and end."""
    if runs_process.stop(run.path):
        st.session_state.setdefault("stopping", {})[run.path] = run.status.pid


def stopping(run: Run) -> bool:
    """Whether this tab has asked its process to end."""
    return run.status.pid is not None and st.session_state.get("stopping", {}).get(run.path) == run.status.pid


def resume(path: Path, epochs: float | None = None) -> None:
    """Go on, and say so if that cannot be."""
    attempt(lambda: runs_process.resume(path, epochs))


def again(path: Path) -> None:
    """Start it as before."""
    attempt(lambda: runs_process.again(path))


def remove(run: Run, zips: list[Path]) -> None:
    """Delete a run, and the zips that it alone was trained on."""

    def removed() -> None:
        left = delete(run)
        train_data.remove_uploads(zips)
        if st.session_state["runs"] == [str(run.path)]:
            # Another one takes its place.
            address.drop("runs")
        if left:
            names = ", ".join(path.name for path in left)
            raise ValueError(f"Left in {run.path}, as training did not write it: {names}")

    attempt(removed)


def attempt(work: Callable[[], Any]) -> None:
    """Do it, and keep for the page what went wrong."""
    try:
        work()
    except (ValueError, OSError) as error:
        st.session_state["run problem"] = sentence(str(error))
