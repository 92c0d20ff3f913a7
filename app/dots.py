"""The colour of an expert as a dot that stands in a label."""

import base64
import io
from functools import cache

from PIL import Image, ImageDraw

from condconv_mlx.charts import expert_color

SIDE = 48


@cache
def dot(expert: int) -> str:
    """A dot in the colour of an expert, counted from 0, as Markdown."""
    image = Image.new("RGBA", (SIDE, SIDE))
    ImageDraw.Draw(image).ellipse((4, 4, SIDE - 5, SIDE - 5), fill=expert_color(expert))
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"![](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})"
