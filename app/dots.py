"""The colour of an expert as a dot that stands in a label."""

from functools import cache

from PIL import Image, ImageDraw

from condconv_mlx.app.pictures import data_uri
from condconv_mlx.charts import expert_color

SIDE = 48


@cache
def dot(expert: int) -> str:
    """A dot in the colour of an expert, counted from 0, as Markdown."""
    image = Image.new("RGBA", (SIDE, SIDE))
    ImageDraw.Draw(image).ellipse((4, 4, SIDE - 5, SIDE - 5), fill=expert_color(expert))
    return f"![]({data_uri(image, 'PNG')})"
