"""The looks that all charts share: one accent, and scales that colour-blind people can read."""

import html
from typing import Any

import plotly.graph_objects as go

ACCENT = "#4C6EF5"
ACCENT_SOFT = "rgba(76, 110, 245, 0.35)"
# Nothing is the page's own background, so that low values recede in light and in dark.
SEQUENTIAL = [[0.0, "rgba(76, 110, 245, 0.05)"], [1.0, "rgba(76, 110, 245, 1)"]]
# Orange and blue stay apart for every kind of colour blindness; zero is a faint grey that both backgrounds show.
# Opacity goes with the root of a weight, since most are small beside the largest one.
_ROOTS = (1.0, 0.75, 0.5, 0.3)
DIVERGING = [
    *[[0.5 - 0.5 * root**2, f"rgba(240, 128, 32, {root})"] for root in _ROOTS],
    [0.5, "rgba(134, 142, 150, 0.10)"],
    *[[0.5 + 0.5 * root**2, f"rgba(76, 110, 245, {root})"] for root in reversed(_ROOTS)],
]
GREY = "#868E96"
COLORBAR = 64
# Chosen one after the other, each as far as can be from those before it in OKLab, to the eye and as people see it who
# lack red, green or (counted less, being rare) blue (Machado et al. 2009), and visible on white and on black. The first
# eight stay well apart for all; of 32 nobody could tell each from each, so that a number always stands beside.
EXPERTS = (
    "#4C6EF5 #E8590C #60CCCC #A80078 #E4B400 #A878A8 #844800 #783CB4 "
    "#849CFC #F09084 #CC3C60 #4824FC #A854C0 #FC54D8 #D86C78 #F08400 "
    "#B4B4FC #307854 #006084 #18C09C #846C84 #A85424 #9CA854 #309CCC "
    "#0C54D8 #6C84FC #FC249C #B47848 #C0C06C #A83C9C #FC9CB4 #903C3C"
).split()


def layout(figure: go.Figure, height: int, top: int = 0, bottom: int = 0, **options: Any) -> go.Figure:
    """Transparent, as wide as its place, `height` pixels high with its margins. Dragging scrolls the page."""
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": top, "b": bottom},
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        showlegend=False,
        dragmode=False,
        **options,
    )
    return figure


def colorbar(title: str, **options: Any) -> dict[str, Any]:
    """A thin bar with its title, in a margin of COLORBAR pixels under a chart."""
    return {
        "title": {"text": title, "side": "top", "font": {"size": 12}},
        "tickfont": {"size": 12},
        "orientation": "h",
        "thickness": 8,
        "len": 160,
        "lenmode": "pixels",
        "x": 0,
        "xanchor": "left",
        "xpad": 14,
        "y": 0,
        "yanchor": "top",
        "ypad": 10,
        "outlinewidth": 0,
        **options,
    }


def plain(text: str) -> str:
    """Text as it is, in a place where Plotly would act on HTML."""
    return html.escape(text, quote=False)


def expert_color(expert: int) -> str:
    """The colour of an expert, counted from 0: the same in all charts. After the 32nd they begin again."""
    return EXPERTS[expert % len(EXPERTS)]


def expert_names(count: int) -> list[str]:
    """Experts are counted from 1, as on the command line; over each number a square of its colour."""
    return [f"<span style='color:{expert_color(i)}'>■</span><br>{i + 1}" for i in range(count)]
