"""Small pieces that pages share."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from PIL import Image, ImageDraw

from condconv_mlx.app.export import table_csv

# Drawn by hand: an icon font would be fetched from elsewhere.
BARS = (26, 54, 38, 14)
# More pictures than this scroll in a box of their own.
MANY = 30


def _icon() -> Image.Image:
    image = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(image)
    for i, height in enumerate(BARS):
        draw.rounded_rectangle((2 + 16 * i, 60 - height, 13 + 16 * i, 60), 3, fill="#4C6EF5")
    return image


ICON = _icon()


def escape(text: str) -> str:
    """Text from outside, such as the name of a file, with nothing in it that Markdown would act on."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-!|~$:^])", r"\\\1", text)


def shortened(text: str, length: int = 22) -> str:
    """A long name without its middle."""
    keep = (length - 1) // 2
    return text if len(text) <= length else f"{text[:keep]}…{text[-keep:]}"


def sentence(words: str) -> str:
    """An error of the command line, with a capital and a full stop; nothing stays nothing."""
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '!', '?')) else '.'}" if words else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of words. Streamlit's own tables need pandas, which takes a while to be imported, and while it is, charts
    that other tabs draw meanwhile fail."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[cell if line is lines[1] else escape(cell) for cell in line] for line in lines]
    st.markdown("\n".join(f"| {' | '.join(line)} |" for line in cells))


def short(router: str) -> str:
    """A router by the name of what it belongs to."""
    return router.removesuffix(".router")


def rounded(share: float, digits: int = 0) -> str:
    """A share in percent: "34 %"."""
    return f"{share:.{digits}%}".replace("%", " %")


def tell(*problems: str) -> None:
    """Sentences to show at the top of the page, in the place of those before; none takes them away."""
    st.session_state["problems"] = list(problems)


def scrolling(height: int | None) -> st.delta_generator.DeltaGenerator:
    """A place of `height` pixels whose content scrolls; None: as high as its content."""
    return st.container(height=height or "content", border=False)


def chart(figure: go.Figure, name: str, alt: str, **options: Any) -> Any:
    """A figure with one button, which saves it as NAME.png."""
    save = {"format": "png", "scale": 2, "filename": name}
    config = {"displaylogo": False, "modeBarButtons": [["toImage"]], "toImageButtonOptions": save}
    return st.plotly_chart(figure, config=config, alt=alt, **options)


def title(text: str, key: str) -> None:
    """A heading, in Markdown, that stands level with that of a `titled_chart` beside it."""
    with st.container(horizontal=True, vertical_alignment="center", key=f"title {key}"):
        st.markdown(f"#### {text}")


def titled_chart(
    title: str,
    figure: go.Figure,
    name: str,
    alt: str,
    rows: Callable[[], tuple[Sequence[str], Sequence[Sequence[Any]]]],
    help: str | None = None,
    **options: Any,
) -> Any:
    """A chart under its title, with a button beside that which saves what it shows as NAME.csv.

    Args:
        title: what is to be seen, in plain words.
        name: of the files, and the key of the chart unless `options` give one.
        alt: what it shows, for who cannot see it.
        rows: header and rows of the table behind it; called when the button is pressed.
        help: how to read it, behind a question mark.
        options: of `st.plotly_chart`.

    Returns:
        What `st.plotly_chart` does.
    """
    key = options.pop("key", name)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"title {key}"):
        st.markdown(f"#### {title}", help=help, width="stretch")
        st.download_button(
            "CSV",
            lambda: table_csv(*rows()),
            f"{name}.csv",
            "text/csv",
            key=f"csv {key}",
            on_click="ignore",
            icon=":material/download:",
            type="tertiary",
            help="The numbers of this chart",
        )
    return chart(figure, name, alt, key=key, **options)
