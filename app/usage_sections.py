"""The looks that the page Usage has at many pictures. Each returns the pictures that were chosen in it, or None."""

from collections.abc import Callable

import numpy as np
import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app import address
from condconv_mlx.app.dots import dot
from condconv_mlx.app.frame import View, choose_layer, layers_of
from condconv_mlx.app.parts import escape, rounded, titled_chart
from condconv_mlx.app.survey import Survey
from condconv_mlx.explain import (
    IMAGE_MAPS,
    by_similarity,
    class_means,
    expert_states,
    image_map,
    portraits,
    separation,
    spread,
    usage,
)
from condconv_mlx.explain.usage import BIMODAL

ALL = "all layers"
# Rows that a screen can hold.
MOST_ROWS = 400
MOST_CLASSES = 40
FEW_CLASSES = 4
FEW_ROUTERS = 3
TOP = 8
# Of the variance between classes that chance alone gives.
FEW_PICTURES = 0.15


def layers(view: View, found: Survey, truth: bool) -> None:
    """Entropy, saturation and what the class explains, by depth; experts that are not used."""
    _, classes = found.classes(truth)
    numbers = [usage(weights) for weights in found.weights]
    explained = [separation(weights, classes) for weights in found.weights]
    lines = {
        "evenness (entropy)": [one.entropy for one in numbers],
        "saturated (near 0 or 1)": [one.saturated for one in numbers],
        "explained by the class": [one.router for one in explained],
    }
    titled_chart(
        "How the layers use their experts",
        charts.usage_by_depth(found.routers, lines),
        "layers",
        "Entropy, saturation and the share of variance between classes, by router",
        lambda: (
            ["router", *lines],
            [[name, *(line[i] for line in lines.values())] for i, name in enumerate(found.routers)],
        ),
        help="Evenness: 100 % where a picture uses all experts alike, 0 % where it uses one. Saturated: weights below "
        "0.05 or above 0.95, which hardly learn any more. Explained by the class: the share of the weights' variance "
        f"that lies between classes (η²); weights that ignore the class would give {rounded(explained[0].chance)}.",
    )
    if explained[0].chance > FEW_PICTURES:
        st.caption(
            f"So few pictures of so many classes look explained by the class anyway: weights that ignore it would give "
            f"{rounded(explained[0].chance)}. **Add** more above, or look at a data set."
        )
    states = [expert_states(weights) for weights in found.weights]
    said = {
        "dead": "**Dead**, below 0.05 for at least 99 % of these pictures",
        "always on": "**Always on**, above 0.95 for at least 99 % of these pictures",
        "constant": "**Constant**, the same for all pictures within a hundredth",
    }
    for state, meaning in said.items():
        where = [
            f"{escape(router)} {', '.join(f'{dot(i)} {i + 1}' for i, one in enumerate(of) if one == state)}"
            for router, of in zip(found.routers, states, strict=True)
            if state in of
        ]
        if where:
            st.markdown(f"{meaning}: {'; '.join(where)}.")
    if all(one == "in use" for of in states for one in of):
        st.markdown("Every expert is in use: none is dead, always on or constant.")


def depth(view: View, found: Survey, truth: bool) -> None:
    """The paper's figure: mean weights of some classes at some depths."""
    names, classes = found.classes(truth)
    first = list(dict.fromkeys(np.linspace(0, len(found.routers) - 1, FEW_ROUTERS).round().astype(int).tolist()))
    few = [names[i] for i in np.linspace(0, len(names) - 1, min(FEW_CLASSES, len(names))).round().astype(int)]
    left, right = st.columns(2)
    with left:
        chosen = st.multiselect("Classes", names, default=few, max_selections=8, key="depth classes")
    with right:
        routers = st.multiselect(
            "Depths", range(len(found.routers)), default=first, format_func=found.routers.__getitem__, key="depths"
        )
    if not chosen or not routers:
        st.info("Choose at least one class and one depth.")
        return
    routers = sorted(routers)
    rows = [names.index(name) for name in chosen]
    means = [class_means(found.weights[router], classes)[rows] for router in routers]
    titled_chart(
        "Do classes call on different experts, and from which depth on?",
        charts.class_depth([found.routers[router] for router in routers], means, chosen),
        "depth",
        "Mean routing weights of some classes at some depths",
        lambda: (
            ["router", "class", "expert", "mean weight"],
            [
                [found.routers[router], name, expert + 1, weight]
                for router, table in zip(routers, means, strict=True)
                for name, row in zip(chosen, table, strict=True)
                for expert, weight in enumerate(row)
            ],
        ),
        help="Where the lines lie on each other, the layer treats these classes alike. Where they part, it is "
        "class-specific.",
    )


def weights(view: View, found: Survey, truth: bool) -> None:
    """How often each weight occurs."""
    spreads = [spread(weights) for weights in found.weights]
    notes = []
    for one in spreads:
        two = int((one.bimodality > BIMODAL).sum())
        ends = float((one.low + one.high).mean())
        notes.append(f"{rounded(ends)} near 0 or 1, {two} of {len(one.low)} experts with two peaks")
    edges = spreads[0].edges
    titled_chart(
        "Are experts switched on and off, or mixed?",
        charts.weight_histograms(found.routers, [one.counts for one in spreads], edges, notes),
        "weights",
        "Histograms of the routing weights of each router",
        lambda: (
            ["router", "expert", "from", "to", "pictures"],
            [
                [router, expert + 1, float(low), float(high), int(count)]
                for router, one in zip(found.routers, spreads, strict=True)
                for expert, row in enumerate(one.counts)
                for low, high, count in zip(edges, edges[1:], row, strict=False)
            ],
        ),
        help="Heaps at both ends are switches, one in the middle a mixture. Two peaks are counted where the "
        "coefficient of bimodality is above 5/9, that of a flat distribution. Each colour is an expert.",
    )


def experts(view: View, found: Survey, truth: bool) -> list[int] | None:
    """For each expert the classes and pictures that call on it most."""
    names, classes = found.classes(truth)
    answer = view.answer_one()
    if address.value("layer") is None:
        # The last is the most telling.
        address.put(layer=answer.routing[-1].layers[0])
    router = layers_of(answer)[choose_layer(answer)]
    weights = found.weights[router]
    means = class_means(weights, classes)
    # Of many classes those that are routed most unlike the mean.
    rows = np.argsort(-((means - weights.mean(axis=0)) ** 2).sum(axis=1), kind="stable")[:MOST_CLASSES]
    rows = np.sort(rows)
    shown = "" if len(rows) == len(names) else f" ({len(rows)} of {len(names)} classes)"
    titled_chart(
        f"Which classes call on which expert{shown}",
        charts.class_experts([names[i] for i in rows], means[rows]),
        "experts-by-class",
        "Mean routing weight of each expert in each class",
        lambda: (
            ["class", *[f"expert {i + 1}" for i in range(means.shape[1])]],
            [[name, *row] for name, row in zip(names, means, strict=True)],
        ),
        help="A row that differs from the others is a class with experts of its own.",
    )
    number = address.remember("expert", [f"{i + 1}" for i in range(weights.shape[1])], "1")
    st.pills(
        "Expert",
        [f"{i + 1}" for i in range(weights.shape[1])],
        format_func=lambda number: f"{dot(int(number) - 1)} {number}",
        required=True,
        key="expert",
    )
    expert = int(number) - 1
    portrait = portraits(weights, classes, TOP)[expert]
    top = ", ".join(f"{escape(names[label])} {mean:.2f}" for label, mean in portrait.classes[:5])
    share = separation(weights, classes).experts[expert]
    st.markdown(
        f"**Expert {number} of {escape(found.routers[router])}** is {expert_states(weights)[expert]}, with a mean "
        f"weight of {portrait.mean:.2f}; the class explains {rounded(share)} of how it varies. Called on most by "
        f"{top}, and by these pictures:"
    )
    with st.container(horizontal=True, key="portrait"):
        for n, weight in portrait.images:
            with st.container(width=84, gap=None):
                st.image(found.thumbnail(n), width=80, alt=found.names[n])
                st.caption(f"{weight:.2f}")
    return [n for n, _ in portrait.images]


def images(view: View, found: Survey, truth: bool) -> None:
    """Pictures × experts, those next to each other that are routed alike."""
    names, classes = found.classes(truth)
    total = len(found.names)
    few = np.linspace(0, total - 1, min(total, MOST_ROWS)).round().astype(int)
    order = st.segmented_control(
        "In the order of",
        ["likeness", "classes"],
        default="likeness",
        required=True,
        key="order",
        persist_state="session",
    )
    vectors = found.vectors[few]
    rows = few[by_similarity(vectors)]
    if order == "classes":
        rows = rows[np.argsort(classes[rows], kind="stable")]
    columns = [
        f"{router} {i + 1}" for router, of in zip(found.routers, found.weights, strict=True) for i in range(of.shape[1])
    ]
    said = [found.names[n] for n in rows]
    if not (truth and address.value("of")):
        said = [f"{found.names[n]} · {names[classes[n]]}" for n in rows]
    titled_chart(
        "Which pictures are routed alike",
        charts.clustered_images(said, found.routers, [of[rows] for of in found.weights]),
        "images",
        "Routing weights of all pictures, clustered",
        lambda: (
            ["picture", "class", *columns],
            [[found.names[n], names[classes[n]], *map(float, found.vectors[n])] for n in rows],
        ),
        help="A row is a picture, a column an expert. Rows are ordered by hierarchical clustering (average linkage of "
        "the routing weights of all layers); in the order of classes, within each class.",
    )
    if len(few) < total:
        st.caption(f"{len(few)} of {total:,} pictures, evenly taken.")


def places(view: View, found: Survey, truth: bool) -> list[int]:
    """A map of pictures, to choose some of them."""
    names, classes = found.classes(truth)
    of, colour, how = st.columns(3)
    with of:
        router = st.selectbox(
            "Routing of",
            [-1, *range(len(found.routers))],
            format_func=lambda i: ALL if i < 0 else found.routers[i],
            key="map of",
            persist_state="session",
        )
    weights = found.vectors if router < 0 else found.weights[router]
    with colour:
        numbers = range(0 if router < 0 else weights.shape[1])
        shade = st.selectbox(
            "Colour by",
            [-1, *numbers],
            format_func=lambda i: "class" if i < 0 else f"weight of expert {i + 1}",
            key=f"map colour {router}",
            persist_state="session",
        )
    with how:
        if len(IMAGE_MAPS) > 1:
            method = st.selectbox("Map", IMAGE_MAPS, key="map method", persist_state="session")
        else:
            method = IMAGE_MAPS[0]
    try:
        with st.spinner("Drawing the map …"):
            where, shares = cached_map(weights, method)
    except ValueError as error:
        st.info(escape(str(error)))
        return []
    axes = ["", ""]
    if shares is not None:
        axes = [f"component {i + 1} ({rounded(share)} of the variance)" for i, share in enumerate(shares)]
    figure = charts.image_map(
        where,
        found.names,
        [names[i] for i in classes],
        found.thumbnail,
        (axes[0], axes[1]),
        None if shade < 0 else (f"expert {shade + 1}", weights[:, shade]),
    )
    selected = titled_chart(
        "Pictures that are routed alike lie together",
        figure,
        "map",
        "A map of pictures by their routing weights",
        lambda: (
            ["picture", "class", "x", "y"],
            [[found.names[n], names[classes[n]], *map(float, where[n])] for n in range(len(where))],
        ),
        help="A picture that has room is drawn over its point. Draw round some, and they can be looked at alone "
        "on all pages. PCA keeps as much of the differences as a plane can.",
        selection_mode=["points", "lasso", "box"],
        on_select="rerun",
    )
    return sorted({int(point["customdata"][0]) for point in selected["selection"]["points"]})


@st.cache_data(max_entries=16, show_spinner=False)
def cached_map(vectors: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray | None]:
    """`image_map`, which takes seconds for some methods."""
    return image_map(vectors, method)


SECTIONS: dict[str, tuple[str, Callable[[View, Survey, bool], list[int] | None]]] = {
    "layers": ("Layers", layers),
    "depth": ("Classes by depth", depth),
    "experts": ("Experts", experts),
    "weights": ("Weights", weights),
    "images": ("Pictures × experts", images),
    "map": ("Map", places),
}
