"""What two models answer over all pictures of the tray: how often they agree and are right, and where they differ."""

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import tray
from condconv_mlx.app.frame import View
from condconv_mlx.app.parts import escape, rounded, titled_chart
from condconv_mlx.explain import agreement

# Pictures that two models take for different things; the chart has all.
SHOWN = 24
STYLE = """<style>
.st-key-differing button img {width: 2.5rem; height: 2.5rem; max-height: none; border-radius: .4rem; margin: 0}
.st-key-differing button p {display: flex; align-items: center; gap: .5rem; text-align: left}
</style>"""


def show_score(
    view: View,
    other: View,
    names: tuple[str, str],
    first: np.ndarray,
    theirs: np.ndarray,
    second: np.ndarray | None,
) -> None:
    """How often two models agree over the tray and how often they are right, and the pictures on which they differ.

    Args:
        view, other: of the models.
        names: of the models.
        first, theirs: their probabilities, (N, classes), in the order of their own classes.
        second: the latter in the order of the first model's classes; None where it knows others.
    """
    score = right_of(view, other, names, first, theirs)
    if second is None:
        st.markdown(score)
        return
    found = agreement(first, second)
    count = len(found.same)
    st.markdown(f"Both give the same answer for **{found.same.sum()} of {count}** pictures of the tray. {score}")
    differing = [int(n) for n in np.argsort(-found.apart, kind="stable") if not found.same[n]]
    if not differing:
        st.caption("They differ on none of these. **Add** more above, test images of a data set for instance.")
        return
    st.html(STYLE)
    labels = view.card.labels
    with st.container(horizontal=True, key="differing"):
        for n in differing[:SHOWN]:
            picture = view.pictures[n]
            said = f"{labels[first[n].argmax()]} / {labels[second[n].argmax()]}"
            st.button(
                f"![{escape(picture.title)}]({picture.thumbnail}) {escape(said)}",
                on_click=tray.choose,
                args=(picture.id,),
                key=f"differing {picture.id}",
                help=f"Look at {escape(picture.title)}",
            )
    more = f", the {SHOWN} farthest apart of {len(differing)}" if len(differing) > SHOWN else ""
    st.caption(f"Where they differ: by {escape(names[0])} / by {escape(names[1])}{more}. Click one to look at it.")


def truths(view: View) -> np.ndarray:
    """For each picture the index of its true class among the model's, (N,); -1 where that is not known."""
    place = {label: i for i, label in enumerate(view.card.labels)}
    return np.array([-1 if one.truth is None else place.get(one.truth, -1) for one in view.pictures])


def right_of(view: View, other: View, names: tuple[str, str], first: np.ndarray, second: np.ndarray) -> str:
    """A sentence on how many pictures each model gets right."""
    known = truths(view), truths(other)
    sides = [
        (escape(name), int((probabilities.argmax(axis=1) == own).sum()), int((own >= 0).sum()))
        for name, probabilities, own in zip(names, (first, second), known, strict=True)
    ]
    if not any(total for *_, total in sides):
        return "What these pictures show is not known, so nobody can say which is right."
    if ((known[0] < 0) != (known[1] < 0)).any():
        each = [f"{name} **{right} of {total}**" if total else f"{name} knows none" for name, right, total in sides]
        return f"Right among the pictures of the tray whose class it knows: {'; '.join(each)}."
    said = " and ".join(f"**{right}** by {name} ({rounded(right / total)})" for name, right, total in sides)
    return f"Right among the {sides[0][2]} whose class is known: {said}."


def show_map(view: View, names: tuple[str, str], first: np.ndarray, second: np.ndarray) -> None:
    """Each picture by the probability of its class under two models that know the same classes, (N, classes) each."""
    labels, known, found = view.card.labels, truths(view), agreement(first, second)
    answers = first.argmax(axis=1), second.argmax(axis=1)
    about = np.where(known >= 0, known, answers[0])
    rows = np.arange(len(about))
    x, y = first[rows, about], second[rows, about]
    kinds = []
    for n in rows:
        right = [bool(answer[n] == known[n]) for answer in answers]
        if known[n] < 0:
            kinds.append(f"class not known, {'same answer' if found.same[n] else 'different answers'}")
        elif right[0] == right[1]:
            kinds.append("both right" if right[0] else "both wrong")
        else:
            kinds.append(f"only {names[0] if right[0] else names[1]} right")
    notes = [" against ".join(labels[answer[n]] for answer in answers) for n in rows]
    # Another chart for another picture: in this one the point stays selected, and a second click would tell nothing.
    picked = f"answers {view.picture.id}"

    def look() -> None:
        points = st.session_state[picked]["selection"]["points"]
        if points:
            tray.choose(view.pictures[int(points[0]["customdata"][0])].id)

    titled_chart(
        "How sure both are",
        charts.answer_map(
            names,
            [one.title for one in view.pictures],
            [labels[i] for i in about],
            x,
            y,
            kinds,
            notes,
            view.n,
        ),
        "answers",
        f"Each picture by the probability of its class under {names[0]} and {names[1]}",
        lambda: (
            ["picture", "true class", *names, "class", *[f"probability by {name}" for name in names], "apart"],
            [
                [
                    one.title,
                    one.truth or "",
                    *[labels[answer[n]] for answer in answers],
                    labels[about[n]],
                    x[n],
                    y[n],
                    found.apart[n],
                ]
                for n, one in enumerate(view.pictures)
            ],
        ),
        help="The probability of a picture's true class; where that is not known, of the one that the first model "
        "gives. On the dotted line both are equally sure. Click a point to look at that picture.",
        key=picked,
        selection_mode="points",
        on_select=look,
    )
