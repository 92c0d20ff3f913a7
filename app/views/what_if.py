"""What if: other routing weights for a picture, and what the network then makes of it."""

from functools import partial

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import changes
from condconv_mlx.app.controls import State, change, controls, current, undo
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.frame import View, is_static, open_page, select
from condconv_mlx.app.parts import escape, short, titled_chart
from condconv_mlx.app.references import usual
from condconv_mlx.charts import percent
from condconv_mlx.explain import Silencing, scaled, silenced, silencing_overrides

PAPER = """
Section 5 of the paper shows that routing weights differ between images and classes, and that some experts fire for a
few classes only. Whether the answer *hangs* on them is another question, which only a change can answer. If uniform
weights give the same answer, the layer could have been static for this picture. If silencing one expert turns the
answer, that expert holds something that the others lack.

The routers after a changed one see changed features, and route anew, unless you change them too. Uniform weights, one
expert alone and shuffled weights keep the sum of the network's own weights, since no layer divides by it.
"""


def show() -> None:
    """The page."""
    view = open_page(
        "What if",
        "Change which experts are mixed, and see whether the answer holds: grey is what the network says by itself.",
        PAPER,
    )
    answer = view.answer_one()
    if not is_static(answer):
        experiment(view, answer)


@st.fragment
def experiment(view: View, answer: Answer) -> None:
    """All of the page that moves with a change."""
    state = State(view, answer, current(answer))
    (seen,) = state.look([state.override(state.changes)])
    before, after = answer.probabilities[0], seen.probabilities[0]
    left, right = st.columns([4, 5], gap="large")
    with left:
        prediction(state, before, after)
    with right:
        controls(state, [router.weights[0] for router in seen.routers])
    show_silencing(state)
    show_alternatives(state, after)


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


def show_silencing(state: State) -> None:
    """What each expert is worth for the answer, in the network as it is."""
    (base,) = state.look([{}])
    found = silenced(base, np.concatenate([one.probabilities for one in state.look(silencing_overrides(base))]))
    label = state.view.card.labels[int(found.probabilities.argmax())]
    routers = [short(routing.router) for routing in state.answer.routing]
    framed = [
        (router, expert) for router in state.changes for expert, weight in enumerate(state.given(router)) if weight == 0
    ]
    key = f"silencing {st.session_state.setdefault('clicks', 0)}"
    titled_chart(
        f"How much of “{escape(label)}” is lost without each expert",
        charts.silencing_chart(routers, found.without, found.probabilities, state.view.card.labels, framed),
        "silencing",
        f"Change of the probability of {label} when each expert of each router is silenced",
        partial(silencing_rows, found, routers, state.view.card.labels),
        help="Each cell is a run of the network by itself but for this one expert. Orange: the answer weakens without "
        "it. Blue: it grows stronger. A click silences the expert, and another one gives it back.",
        key=key,
        selection_mode="points",
        on_select=partial(click, state, key),
    )


def click(state: State, key: str) -> None:
    """A click on a cell silences its expert, or gives it back."""
    points = st.session_state[key]["selection"]["points"]
    if not points:
        return
    router, expert = int(points[0]["customdata"][0]), int(points[0]["customdata"][1])
    given = state.given(router)
    given[expert] = np.nan if given[expert] == 0 else 0
    change({**state.changes, router: changes.by_hand(given)})
    select(state.answer.routing[router].layers[0], expert)
    # Another chart: in this one the cell stays selected, so that a second click on it would tell nothing.
    st.session_state["clicks"] += 1


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


def show_alternatives(state: State, after: np.ndarray) -> None:
    """The same picture under the usual interventions, in all layers at once; `after` is what the changes make of it."""
    routers = range(len(state.own))
    tried: dict[str, dict[int, str]] = {
        "its own routing": {},
        "all alike": dict.fromkeys(routers, "uniform"),
        "as usual": dict.fromkeys(routers, "usual"),
        "shuffled": dict.fromkeys(routers, "shuffled1"),
        "shuffled otherwise": dict.fromkeys(routers, "shuffled2"),
        "half as strong": {i: changes.by_hand(scaled(own, 0.5)) for i, own in enumerate(state.own)},
        "the strongest alone": {i: f"one{int(own.argmax()) + 1}" for i, own in enumerate(state.own)},
    }
    seen = state.look([state.override(one) for one in tried.values()])
    probabilities = np.concatenate([one.probabilities for one in seen])
    if state.changes:
        tried["your changes"] = state.changes
        probabilities = np.concatenate([probabilities, after[None]])
    of = usual(state.view)
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
        help="All routers are changed at once. Where the bar stays long, the answer does not need the routing. As "
        f"usual is the mean routing of {of.images:,} {of.of}.",
    )
