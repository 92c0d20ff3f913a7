"""Small pieces that pages share."""

import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from PIL import Image, ImageDraw

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


def remember(key: str, options: Sequence[str], default: str) -> None:
    """Give the widget `key` its value: the one it had, else the one in the address, else the default."""
    value = st.session_state.get(key, st.query_params.get(key))
    st.session_state[key] = value if value in options else default


def in_address(**values: str | None) -> None:
    """Keep these in the address, so that a reload shows the same; None takes one out."""
    for key, value in values.items():
        if value is None:
            st.query_params.pop(key, None)
        elif st.query_params.get(key) != value:
            st.query_params[key] = value


def scrolling(height: int | None) -> st.delta_generator.DeltaGenerator:
    """A place of `height` pixels whose content scrolls; None: as high as its content."""
    return st.container(height=height or "content", border=False)


def chart(figure: go.Figure, name: str, alt: str, **options: Any) -> Any:
    """A figure with one button, which saves it as NAME.png."""
    save = {"format": "png", "scale": 2, "filename": name}
    config = {"displaylogo": False, "modeBarButtons": [["toImage"]], "toImageButtonOptions": save}
    return st.plotly_chart(figure, config=config, alt=alt, **options)
