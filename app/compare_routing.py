"""Which experts are mixed, by two models or for two pictures."""

from functools import partial
from typing import Any

import streamlit as st

from condconv_mlx import charts
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.frame import View, current_expert, current_layer, layers_of, select_cell
from condconv_mlx.app.parts import escape, short, titled_chart
from condconv_mlx.explain import mean_routing_distance, routing_distance


def show_heatmap(answer: Answer, title: str, key: str, clickable: bool) -> None:
    """The routing of one picture."""
    layer = current_layer(answer)
    chosen = layers_of(answer)[layer]
    weights = [routing.weights[0] for routing in answer.routing]
    figure = charts.routing_heatmap(
        [short(routing.router) for routing in answer.routing],
        [routing.layers for routing in answer.routing],
        weights,
        selected=chosen if clickable else None,
        expert=current_expert(len(weights[chosen])) if clickable else None,
        clickable=clickable,
    )
    options: dict[str, Any] = (
        {"selection_mode": "points", "on_select": lambda: select_cell(answer, key)} if clickable else {}
    )
    titled_chart(title, figure, key, "Routing weights, routers by experts", partial(routing_rows, answer), **options)


def routing_rows(answer: Answer) -> tuple[list[str], list[list]]:
    """The heatmap as a table."""
    rows = [[r.router, expert + 1, weight] for r in answer.routing for expert, weight in enumerate(r.weights[0])]
    return ["router", "expert", "routing weight"], rows


def show_heatmaps(names: tuple[str, str], answers: tuple[Answer, Answer]) -> None:
    """Which experts each model mixes for the picture. A click on the first one's chooses."""
    if not any(answer.routing for answer in answers):
        st.info("Both networks are static: each layer has one kernel for every picture, so there is nothing to route.")
        return
    columns = st.columns(2, gap="medium", vertical_alignment="center")
    for i, (column, name, answer) in enumerate(zip(columns, names, answers, strict=True)):
        with column:
            if answer.routing:
                show_heatmap(answer, f"What {escape(name)} mixes for it", f"routing-{i + 1}", clickable=i == 0)
            else:
                st.markdown(f"**{escape(name)}** mixes nothing: it has one kernel a layer for every picture.")


def show_difference(names: tuple[str, str], answers: tuple[Answer, Answer]) -> None:
    """The routing of the first picture less that of the second."""
    routers = [short(routing.router) for routing in answers[0].routing]
    first, second = ([routing.weights[0] for routing in answer.routing] for answer in answers)
    titled_chart(
        "The first less the second",
        charts.routing_heatmap(
            routers,
            [routing.layers for routing in answers[0].routing],
            first,
            second,
            difference=True,
            other=names[1],
        ),
        "difference",
        f"Routing weights of {names[0]} less those of {names[1]}",
        lambda: (
            ["router", "expert", "first", "second", "difference"],
            [
                [router, expert + 1, a, b, a - b]
                for router, one, two in zip(routers, first, second, strict=True)
                for expert, (a, b) in enumerate(zip(one, two, strict=True))
            ],
        ),
        help=f"Blue: more for {escape(names[0])}. Orange: more for {escape(names[1])}.",
    )


def show_distance(view: View, names: tuple[str, str], answers: tuple[Answer, Answer]) -> None:
    """How far the two routings are apart, layer by layer."""
    routers = [short(routing.router) for routing in answers[0].routing]
    first, second = ([routing.weights[0] for routing in answer.routing] for answer in answers)
    distances = [routing_distance(a, b) for a, b in zip(first, second, strict=True)]
    usual = [mean_routing_distance(routing.weights) for routing in view.answer().routing]
    titled_chart(
        "How far apart, by depth",
        charts.distance_by_depth(routers, distances, usual),
        "distance",
        f"Mean difference of the routing weights of {names[0]} and {names[1]}, by router",
        lambda: (
            ["router", "mean difference", "mean over all pairs of the tray"],
            [list(row) for row in zip(routers, distances, usual, strict=True)],
        ),
        help="The difference of two routing weights, as a mean over the experts. Dotted lines are the mean over all "
        "pairs of pictures of the tray.",
    )
