"""Compare: two models on the same pictures, or two pictures under one model."""

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import address, tray
from condconv_mlx.app.choices import choose_model, title
from condconv_mlx.app.compare_answers import show_map, show_score
from condconv_mlx.app.compare_costs import show_costs, show_times
from condconv_mlx.app.compare_routing import show_difference, show_distance, show_heatmap, show_heatmaps
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.frame import View, is_static, link, open_page
from condconv_mlx.app.models import Card
from condconv_mlx.app.parts import escape, shortened, titled_chart
from condconv_mlx.app.pictures import enlarged
from condconv_mlx.charts import percent
from condconv_mlx.explain import in_order_of

PAPER = """
**Section 4, tables 1 to 3.** With 8 experts in each of their later layers, the networks answer better at nearly the
same number of multiply-adds. ImageNet, one kernel a layer against CondConv:

| network | multiply-adds | top-1 accuracy |
|---|---|---|
| MobileNetV1 | 567 → 600 M | 71.9 → 73.7 % |
| MobileNetV2 | 301 → 329 M | 71.6 → 74.6 % |
| MnasNet-A1 | 312 → 325 M | 74.9 → 76.2 % |
| ResNet-50 | 4093 → 4213 M | 77.7 → 78.6 % |
| EfficientNet-B0 | 391 → 413 M | 77.2 → 78.3 % |

What grows are the parameters, since each expert is a kernel of its own. **Section 5**: two pictures get nearly the same
weights in early layers, and different ones in deep layers.
"""
MODELS, PICTURES = "models", "pictures"
WHAT = {MODELS: "Two models", PICTURES: "Two pictures"}


def show() -> None:
    """The page."""
    view = open_page(
        "Compare",
        "Does mixing kernels answer better, and what does it cost? Look for pictures on which two models differ, and "
        "for the depth from which two pictures are routed differently.",
        PAPER,
    )
    address.remember("compare", list(WHAT), MODELS)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        what = st.segmented_control(
            "Compare",
            list(WHAT),
            format_func=WHAT.__getitem__,
            required=True,
            key="compare",
            label_visibility="collapsed",
            width="content",
        )
        address.put(compare=None if what == MODELS else what)
        other = choose_model("against", "Compared with", view.card) if what == MODELS else None
    if other:
        two_models(view, View(other, view.pictures, view.n))
    else:
        two_pictures(view)


def two_models(view: View, other: View) -> None:
    """What two models make of the chosen picture and of all, and what they cost."""
    names = apart(title(view.card), title(other.card))
    answers = view.answer_one(), other.answer_one()
    labels = view.card.labels
    truth = f" :small[true class: {escape(view.picture.truth)}]" if view.picture.truth else ""
    st.markdown(f"#### {escape(view.picture.title)}{truth}")
    for column, one, name, answer in zip(st.columns(2, gap="medium"), (view, other), names, answers, strict=True):
        with column:
            show_seen(one, name, answer, measured(one.card))
    first, theirs = view.answer().probabilities, other.answer().probabilities
    second = in_order_of(labels, other.card.labels, theirs)
    left, right = st.columns(2, gap="medium")
    if second is None:
        for i, (column, one) in enumerate(zip((left, right), (view, other), strict=True)):
            with column:
                show_alone(one.card, names[i], answers[i].probabilities[0], f"classes-{i + 1}")
        shared = len(set(labels) & set(other.card.labels))
        st.info(
            f"These models know different classes, {len(labels):,} and {len(other.card.labels):,}, of which {shared:,} "
            "have the same name. So their answers stand side by side, and are not compared."
        )
    else:
        with left:
            show_pair(labels, names, first[view.n], second[view.n], "What both take it for")
        with right:
            show_map(view, names, first, second)
    show_score(view, other, names, first, theirs, second)
    show_heatmaps(names, answers)
    show_costs(view.card, other.card, names)
    show_times(view, other, names)


def measured(card: Card) -> str:
    """How often a model is right, if it says so."""
    return "" if card.accuracy is None else f"right for {percent(card.accuracy)} of {card.measured_on}"


def apart(first: str, second: str) -> tuple[str, str]:
    """Two names less the words that both have, where any are left; equal ones with a number."""
    if first == second:
        return f"{first} (1)", f"{second} (2)"
    words, others = first.split(" · "), second.split(" · ")
    mine = " · ".join(word for word in words if word not in others)
    theirs = " · ".join(word for word in others if word not in words)
    return mine or first, theirs or second


def show_seen(view: View, name: str, answer: Answer, note: str = "") -> None:
    """A name, the picture as a network sees it, and what it takes it for."""
    best = int(answer.probabilities[0].argmax())
    said = f"**{escape(view.card.labels[best])}**, {percent(answer.probabilities[0, best])}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        picture, alt = enlarged(answer.seen[0], 192), f"{view.picture.title}, as the network sees it"
        st.image(picture, width=72, output_format="PNG", alt=alt)
        st.markdown(f"{escape(name)}  \n{said}" + (f"  \n:small[{escape(note)}]" if note else ""), width="stretch")


def show_alone(card: Card, name: str, probabilities: np.ndarray, key: str) -> None:
    """The likeliest classes by one model."""
    titled_chart(
        f"What {escape(name)} takes it for",
        charts.class_bars(card.labels, probabilities, 6),
        key,
        f"The likeliest class is {card.labels[int(probabilities.argmax())]}",
        lambda: (["class", name], list(zip(card.labels, probabilities, strict=True))),
    )


def show_pair(
    labels: tuple[str, ...], names: tuple[str, str], first: np.ndarray, second: np.ndarray, heading: str
) -> None:
    """The likeliest classes by both."""
    titled_chart(
        heading,
        charts.class_pairs(labels, names, first, second),
        "classes-compared",
        f"Probabilities of the likeliest classes by {names[0]} and {names[1]}",
        lambda: (["class", *names], list(zip(labels, first, second, strict=True))),
        help="The classes that either finds likely, in the order of the first.",
    )


def two_pictures(view: View) -> None:
    """What a model makes of two pictures."""
    others = {picture.id: n for n, picture in enumerate(view.pictures) if n != view.n}
    if not others:
        st.info("There is but one picture. **Add** a second one above, and they stand here side by side.")
        return
    other = address.remember("other", list(others), next(iter(others)))
    tray.strip("Compared with", [view.pictures[n] for n in others.values()], "other")
    beside = View(view.card, view.pictures, others[other])
    names = shortened(view.picture.title), shortened(beside.picture.title)
    answers = view.answer_one(), beside.answer_one()
    for column, one, name, answer in zip(st.columns(2, gap="medium"), (view, beside), names, answers, strict=True):
        with column:
            show_seen(one, name, answer, f"true class: {one.picture.truth}" if one.picture.truth else "")
    first, second = (answer.probabilities[0] for answer in answers)
    left, right = st.columns(2, gap="medium")
    with left:
        show_pair(view.card.labels, names, first, second, "What it takes both for")
    with right:
        if is_static(answers[0]):
            return
        show_distance(view, names, answers)
    for i, (column, name, answer) in enumerate(zip(st.columns(2, gap="medium"), names, answers, strict=True)):
        with column:
            show_heatmap(answer, f"What it mixes for {escape(name)}", f"routing-{i + 1}", clickable=True)
    show_difference(names, answers)
    link("kernels", "See both kernels")
