"""The routing of a picture, to be changed by hand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import streamlit as st

from condconv_mlx.app import address, changes, engine
from condconv_mlx.app.dots import dot
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.frame import View, choose_layer, layers_of
from condconv_mlx.app.parts import escape, short
from condconv_mlx.app.references import usual
from condconv_mlx.explain import Trace, variants

KINDS = {
    "own": "its own",
    "hand": "by hand",
    "uniform": "all alike",
    "one": "one expert alone",
    "shuffled": "shuffled among the experts",
    "usual": "as usual",
    "of": "that of another picture",
}
# Changes that can be taken back.
STEPS = 50
COLUMNS = 4


@dataclass(frozen=True)
class State:
    """What is changed for the picture: by the index of the router, see `app.changes`. `answer` is of it alone."""

    view: View
    answer: Answer
    changes: dict[int, str]

    @property
    def own(self) -> list[np.ndarray]:
        """The weights that the network gives the picture, (E,) for each router."""
        return [routing.weights[0] for routing in self.answer.routing]

    def override(self, changed: dict[int, str]) -> dict[str, np.ndarray]:
        """Changes as `condconv_mlx.explain.trace` takes them."""
        return {self.answer.routing[i].router: self.resolved(i, change) for i, change in changed.items()}

    def resolved(self, router: int, change: str) -> np.ndarray:
        """A change of one router as an override, (E,)."""
        ids = [picture.id for picture in self.view.pictures]

        def usually() -> np.ndarray:
            return usual(self.view).mean[self.answer.routing[router].router]

        def of(id: str) -> np.ndarray | None:
            return self.view.answer_one(ids.index(id)).routing[router].weights[0] if id in ids else None

        return changes.resolve(change, self.own[router], usually, of)

    def given(self, router: int) -> np.ndarray:
        """The override of a router that is in force, (E,), to be written to; NaN where it is the router's own."""
        return np.array(self.resolved(router, self.changes.get(router, "")), np.float32)

    def look(self, overrides: list[dict[str, np.ndarray]]) -> list[Trace]:
        """The picture under each of these overrides: traces of a few of them each. They are remembered."""
        image, name = self.view.image, self.view.card.name
        parts = engine.batches(np.broadcast_to(image, (len(overrides), *image.shape[1:])))
        bar = st.progress(0.0) if len(parts) > 1 else None
        traces = []
        for part in parts:
            traces.append(engine.look(name, image, variants, overrides[part]))
            if bar:
                done = min(part.stop, len(overrides))
                bar.progress(done / len(overrides), f"{done} of {len(overrides)} changes tried")
        if bar:
            bar.empty()
        return traces


def current(answer: Answer) -> dict[int, str]:
    """What is changed in this tab."""
    return changes.parse(address.value("what"), [routing.weights.shape[1] for routing in answer.routing])


def change(new: dict[int, str]) -> None:
    """Have these changes from now on. What was before can be had back."""
    past = st.session_state.setdefault("what past", [])
    past.append(address.value("what"))
    del past[:-STEPS]
    address.put(what=changes.join({index: one for index, one in new.items() if one}))


def undo() -> None:
    """The changes before the last one."""
    address.put(what=st.session_state["what past"].pop())


def controls(state: State, weights: list[np.ndarray]) -> None:
    """The routing of one layer, to be changed. `weights` are those in force, (E,) for each router."""
    layer, how = st.columns(2)
    with layer:
        router = layers_of(state.answer)[choose_layer(state.answer)]
    routing, now, own = state.answer.routing[router], weights[router], state.own[router]
    mine = state.changes.get(router, "")
    with how:
        choose_kind(state, router, now)
    choose_detail(state, router)
    shared = f" It is shared by {len(routing.layers)} layers." if len(routing.layers) > 1 else ""
    st.caption(f"Routing weights of {escape(short(routing.router))}, in force and by itself.{shared}")
    silenced = [expert for expert in range(len(now)) if now[expert] == 0]

    def silence_some() -> None:
        chosen = st.session_state[f"silenced {router}"]
        given = state.given(router)
        for expert in range(len(now)):
            if (expert in chosen) != (expert in silenced):
                given[expert] = 0 if expert in chosen else np.nan
        change({**state.changes, router: changes.by_hand(given)})

    st.session_state[f"silenced {router}"] = silenced
    st.pills(
        "Silence",
        range(len(now)),
        selection_mode="multi",
        format_func=lambda expert: f"{dot(expert)} {expert + 1}",
        key=f"silenced {router}",
        on_change=silence_some,
        help="An expert that is silenced gives nothing: its weight is 0.",
    )
    # A row at a time, so that on a narrow screen they stand in their order too.
    for first in range(0, len(now), COLUMNS):
        for column, expert in zip(st.columns(COLUMNS), range(first, len(now)), strict=False):
            with column:
                slider(state, router, expert, float(now[expert]), float(own[expert]))
    if mine:
        st.button(
            "Its own again",
            on_click=lambda: change({**state.changes, router: ""}),
            type="tertiary",
            icon=":material/settings_backup_restore:",
            key="own again",
        )


def slider(state: State, router: int, expert: int, now: float, own: float) -> None:
    """One routing weight."""
    key = f"weight {router} {expert}"

    def moved() -> None:
        given = state.given(router)
        given[expert] = st.session_state[key]
        change({**state.changes, router: changes.by_hand(given)})

    st.session_state[key] = min(max(round(now, 2), 0.0), 1.0)
    st.slider(f"{dot(expert)} {expert + 1} · was {own:.2f}", 0.0, 1.0, step=0.01, key=key, on_change=moved)


def choose_kind(state: State, router: int, now: np.ndarray) -> None:
    """How the routing weights of a router come about."""
    mine = state.changes.get(router, "")
    key = f"kind {router}"
    options = [kind for kind in KINDS if kind != "of" or len(state.view.pictures) > 1]

    def chosen() -> None:
        own = state.own[router]
        others = [picture.id for picture in state.view.pictures if picture.id != state.view.picture.id]
        new: dict[str, Callable[[], str]] = {
            "own": lambda: "",
            "hand": lambda: changes.by_hand(now),
            "uniform": lambda: "uniform",
            "one": lambda: f"one{int(own.argmax()) + 1}",
            "shuffled": lambda: "shuffled1",
            "usual": lambda: "usual",
            "of": lambda: f"of-{others[0]}",
        }
        change({**state.changes, router: new[st.session_state[key]]()})

    st.session_state[key] = changes.kind(mine)
    st.selectbox("Its routing", options, format_func=KINDS.__getitem__, key=key, on_change=chosen)


def choose_detail(state: State, router: int) -> None:
    """Which expert, which picture, which order; and whether all other routers are to do the same."""
    mine = state.changes.get(router, "")
    kind = changes.kind(mine)
    if not mine or kind == "hand":
        return
    key = f"detail {router}"
    everywhere = {index: mine for index in range(len(state.own))}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if kind == "one":
            choose(state, router, key, "Expert", [f"{i + 1}" for i in range(len(state.own[router]))], str, "one")
        elif kind == "of":
            titles = {picture.id: picture.title for picture in state.view.pictures}
            ids = [id for id in titles if id != state.view.picture.id]
            choose(state, router, key, "Picture", ids, titles.__getitem__, "of-")
        elif kind == "shuffled":
            st.button(
                "Shuffle again",
                on_click=lambda: change({**state.changes, router: f"shuffled{int(changes.detail(mine)) + 1}"}),
                icon=":material/shuffle:",
                key="shuffle",
            )
        st.button(
            "Do so in all layers",
            on_click=lambda: change(everywhere),
            disabled=all(state.changes.get(index) == mine for index in everywhere),
            key="everywhere",
        )


def choose(
    state: State, router: int, key: str, label: str, options: list[str], name: Callable[[str], str], prefix: str
) -> None:
    """One of several, which with the prefix before it is a change."""

    def chosen() -> None:
        change({**state.changes, router: f"{prefix}{st.session_state[key]}"})

    had = changes.detail(state.changes[router])
    st.session_state[key] = had if had in options else options[0]
    st.selectbox(label, options, format_func=name, key=key, on_change=chosen)
