"""What if: other routing weights for a picture, and what the network then makes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import address, changes, engine
from condconv_mlx.app.dots import dot
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.frame import View, choose_layer, is_static, layers_of, open_page, select
from condconv_mlx.app.parts import escape, short, titled_chart
from condconv_mlx.charts import percent
from condconv_mlx.explain import Silencing, Trace, silencing, variants

PAPER = """
Section 5 of the paper shows that routing weights differ between images and classes, and that some experts fire for a
few classes only. Whether the answer *hangs* on them is another question, which only a change can answer. If uniform
weights give the same answer, the layer could have been static for this picture. If silencing one expert turns the
answer, that expert holds something that the others lack.

The routers after a changed one see changed features, and route anew, unless you change them too. Uniform weights, one
expert alone and shuffled weights keep the sum of the network's own weights, since no layer divides by it.
"""

KINDS = {
    "own": "its own",
    "hand": "by hand",
    "uniform": "all alike",
    "one": "one expert alone",
    "shuffled": "shuffled among the experts",
    "mean": "the mean of all pictures",
    "of": "that of another picture",
}
# Changes that can be taken back.
STEPS = 50
COLUMNS = 4


@dataclass(frozen=True)
class State:
    """What is changed for the picture: by the index of the router, see `app.changes`."""

    view: View
    answer: Answer
    changes: dict[int, str]

    @property
    def own(self) -> list[np.ndarray]:
        """The weights that the network gives the picture, (E,) for each router."""
        return [routing.weights[self.view.n] for routing in self.answer.routing]

    def override(self, changed: dict[int, str]) -> dict[str, np.ndarray]:
        """Changes as `condconv_mlx.explain.trace` takes them."""
        ids = [picture.id for picture in self.view.pictures]
        return {
            self.answer.routing[i].router: changes.resolve(change, self.own[i], self.answer.routing[i].weights, ids)
            for i, change in changed.items()
        }

    def look(self, *changed: dict[int, str]) -> Trace:
        """The picture under each of these changes: a row each."""
        overrides = [self.override(one) for one in changed]
        return engine.look(self.view.card.name, self.view.image, variants, overrides)


def show() -> None:
    """The page."""
    view = open_page(
        "What if",
        "Change which experts are mixed, and see whether the answer holds: grey is what the network says by itself.",
        PAPER,
    )
    answer = view.answer()
    if not is_static(answer):
        experiment(view, answer)


@st.fragment
def experiment(view: View, answer: Answer) -> None:
    """All of the page that moves with a change."""
    state = State(view, answer, current(answer))
    seen = state.look({}, state.changes)
    before, after = seen.probabilities
    left, right = st.columns([4, 5], gap="large")
    with left:
        prediction(state, before, after)
    with right:
        controls(state, [router.weights[1] for router in seen.routers])
    show_silencing(state)
    show_alternatives(state)


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


def prediction(state: State, before: np.ndarray, after: np.ndarray) -> None:
    """What the network says, beside what it says by itself."""
    labels = state.view.card.labels
    was, now = int(before.argmax()), int(after.argmax())
    if not state.changes:
        verdict = f"**{escape(labels[was])}**, {percent(before[was])}. Nothing is changed yet."
    elif was == now:
        verdict = f"Still **{escape(labels[was])}**: {percent(before[was])} → {percent(after[was])}."
    else:
        verdict = (
            f"Now **{escape(labels[now])}**, {percent(after[now])}. "
            f"{escape(labels[was])}: {percent(before[was])} → {percent(after[was])}."
        )
    titled_chart(
        "What it sees now",
        charts.before_after(labels, before, after),
        "what-if",
        f"Probabilities before and after: {labels[was]} before, {labels[now]} now",
        lambda: (["class", "before", "after"], list(zip(labels, before, after, strict=True))),
        help="Blue: with your changes. Grey: the network by itself.",
    )
    st.markdown(verdict)
    with st.container(horizontal=True):
        past = st.session_state.get("what past")
        st.button("Undo", on_click=undo, disabled=not past, icon=":material/undo:", key="undo change")
        st.button(
            "Reset",
            on_click=lambda: change({}),
            disabled=not state.changes,
            icon=":material/restart_alt:",
            key="reset changes",
        )
    if state.changes:
        names = [short(state.answer.routing[index].router) for index in state.changes]
        st.caption(f"Changed: {escape(', '.join(names))}.")


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
        given = _given(state, router)
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
    columns = st.columns(COLUMNS)
    for expert in range(len(now)):
        with columns[expert % COLUMNS]:
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
        given = _given(state, router)
        given[expert] = st.session_state[key]
        change({**state.changes, router: changes.by_hand(given)})

    st.session_state[key] = min(max(round(now, 2), 0.0), 1.0)
    st.slider(f"{dot(expert)} {expert + 1} · was {own:.2f}", 0.0, 1.0, step=0.01, key=key, on_change=moved)


def choose_kind(state: State, router: int, now: np.ndarray) -> None:
    """How the routing weights of a router come about."""
    mine = state.changes.get(router, "")
    key = f"kind {router}"
    many = len(state.view.pictures) > 1
    options = [kind for kind in KINDS if many or kind not in ("mean", "of")]

    def chosen() -> None:
        own = state.own[router]
        others = [picture.id for picture in state.view.pictures if picture.id != state.view.picture.id]
        new: dict[str, Callable[[], str]] = {
            "own": lambda: "",
            "hand": lambda: changes.by_hand(now),
            "uniform": lambda: "uniform",
            "one": lambda: f"one{int(own.argmax()) + 1}",
            "shuffled": lambda: "shuffled1",
            "mean": lambda: "mean",
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


def show_silencing(state: State) -> None:
    """What each expert is worth for the answer, in the network as it is."""
    found: Silencing = engine.look(state.view.card.name, state.view.image, silencing)
    label = state.view.card.labels[int(found.probabilities.argmax())]
    routers = [short(routing.router) for routing in state.answer.routing]
    silenced = [
        (router, expert)
        for router in state.changes
        for expert, weight in enumerate(_given(state, router))
        if weight == 0
    ]
    titled_chart(
        f"How much of “{escape(label)}” is lost without each expert",
        charts.silencing_chart(routers, found.without, found.probabilities, state.view.card.labels, silenced),
        "silencing",
        f"Change of the probability of {label} when each expert of each router is silenced",
        partial(silencing_rows, found, routers, state.view.card.labels),
        help="Each cell is a run of the network by itself but for this one expert. Orange: the answer weakens without "
        "it. Blue: it grows stronger. A click silences the expert, and another one gives it back.",
        selection_mode="points",
        on_select=partial(click, state),
    )


def click(state: State) -> None:
    """A click on a cell silences its expert, or gives it back; a second click on it takes the selection away."""
    points = st.session_state["silencing"]["selection"]["points"]
    cell = (int(points[0]["customdata"][0]), int(points[0]["customdata"][1])) if points else None
    cell = cell or st.session_state.get("silenced cell")
    st.session_state["silenced cell"] = cell if points else None
    if cell:
        router, expert = cell
        given = _given(state, router)
        given[expert] = np.nan if given[expert] == 0 else 0
        change({**state.changes, router: changes.by_hand(given)})
        select(state.answer.routing[router].layers[0], expert)


def silencing_rows(
    found: Silencing, routers: list[str], labels: tuple[str, ...]
) -> tuple[list[str], list[list[str | int | float]]]:
    label = int(found.probabilities.argmax())
    rows: list[list[str | int | float]] = [
        [router, expert + 1, labels[label], float(row[label] - found.probabilities[label]), labels[int(row.argmax())]]
        for router, without in zip(routers, found.without, strict=True)
        for expert, row in enumerate(without)
    ]
    return ["router", "expert", "class", "change of its probability", "likeliest then"], rows


def show_alternatives(state: State) -> None:
    """The same picture under the usual interventions, in all layers at once."""
    routers = range(len(state.own))
    tried = {
        "its own routing": {},
        "all alike": dict.fromkeys(routers, "uniform"),
        "shuffled": dict.fromkeys(routers, "shuffled1"),
        "shuffled otherwise": dict.fromkeys(routers, "shuffled2"),
        "the strongest alone": {i: f"one{int(own.argmax()) + 1}" for i, own in enumerate(state.own)},
    }
    if len(state.view.pictures) > 1:
        tried["the mean of all pictures"] = dict.fromkeys(routers, "mean")
    if state.changes:
        tried["your changes"] = state.changes
    probabilities = state.look(*tried.values()).probabilities
    labels = state.view.card.labels
    label = labels[int(probabilities[0].argmax())]
    titled_chart(
        f"Does “{escape(label)}” hang on which experts are mixed?",
        charts.alternatives(list(tried), probabilities, labels),
        "alternatives",
        f"Probability of {label} under other routing in all layers",
        lambda: (
            ["routing", label, "likeliest"],
            [
                [name, row[labels.index(label)], labels[int(row.argmax())]]
                for name, row in zip(tried, probabilities, strict=True)
            ],
        ),
        help="All routers are changed at once. Where the bar stays long, the answer does not need the routing.",
    )


def _given(state: State, router: int) -> np.ndarray:
    """The override of a router, (E,), to be written to; NaN where it is the router's own."""
    name = state.answer.routing[router].router
    return np.array(state.override({router: state.changes.get(router, "")})[name], np.float32)
