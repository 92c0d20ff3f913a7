"""The pictures of the app: samples and the user's own, their crops, and small copies of them.

A picture's file never changes, so that what is made of it is kept for all tabs.
"""

import base64
import io
import json
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from condconv_mlx.app.store import Entry, picture_path
from condconv_mlx.data import Box, default_crop, fit_image, open_image

SAMPLES = Path(__file__).parent / "samples"
# Twice what is shown, for screens that can.
THUMBNAIL = 96
ACCENT = (76, 110, 245)


@dataclass(frozen=True)
class Picture:
    """A picture to choose.

    `credit` says whose it is, and is empty for the user's own. `truth` is the class that it shows, None if none is
    known.
    """

    id: str
    title: str
    path: Path
    credit: str = ""
    truth: str | None = None

    @property
    def image(self) -> Image.Image:
        """In mode RGB, upright."""
        return _image(self.path)

    @property
    def thumbnail(self) -> str:
        """The middle of the picture as a small JPEG in an address."""
        return _thumbnail(self.path)

    def fitted(
        self, size: int, channels: int, box: Box | None, invert: bool | None, crop: float | None, interpolation: str
    ) -> np.ndarray:
        """`fit_image` of it. Not to be written to."""
        return _fitted(self.path, size, channels, box, invert, crop, interpolation)


@dataclass(frozen=True)
class Crop:
    """A square in a picture: its side in percent of the largest that fits, its place in percent of the room left."""

    size: int = 100
    across: int = 50
    down: int = 50

    def box(self, size: tuple[int, int]) -> Box:
        """The square in pixels, in an image of `size` (width, height)."""
        if self == Crop():
            return default_crop(size)
        width, height = size
        side = max(1, round(min(size) * self.size / 100))
        return Box(round((width - side) * self.across / 100), round((height - side) * self.down / 100), side)


@cache
def samples(dataset: str) -> tuple[Picture, ...]:
    """The pictures that come with the app for a data set; photographs for one of the user's own."""
    entries = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8"))
    known = dataset in {entry["dataset"] for entry in entries}
    return tuple(
        Picture(
            entry["id"],
            entry["title"],
            SAMPLES / entry["file"],
            _credit(entry["author"], entry["source"], entry["licence"]),
            entry["truth"] if known else None,
        )
        for entry in entries
        if entry["dataset"] == (dataset if known else "cifar10")
    )


def kept(entry: Entry) -> Picture:
    """A picture of the user's own, or of a data set."""
    return Picture(entry.id, entry.title, picture_path(entry.id), truth=entry.truth)


def with_crop(image: Image.Image, box: Box, width: int = 480) -> Image.Image:
    """The picture, dimmed but for the crop, which is framed."""
    # A tiny picture shows its pixels, as the network's view beside it does.
    resample = Image.Resampling.NEAREST if image.width * 4 < width else Image.Resampling.LANCZOS
    shown = image.resize((width, max(1, round(image.height * width / image.width))), resample)
    scale = width / image.width
    corners = [round(value * scale) for value in (box.left, box.top, box.left + box.size, box.top + box.size)]
    left, top, right, bottom = corners
    if (right - left, bottom - top) == shown.size:
        return shown
    dimmed = Image.blend(shown, Image.new("RGB", shown.size, (128, 128, 128)), 0.65)
    dimmed.paste(shown.crop((left, top, right, bottom)), (left, top))
    ImageDraw.Draw(dimmed).rectangle((left, top, right - 1, bottom - 1), outline=ACCENT, width=3)
    return dimmed


def image_of(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, 1) or (H, W, 3) as a picture, grey or in colour."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def data_uri(image: Image.Image, form: str, **options: int) -> str:
    """A picture as an address that holds it; `form` is "PNG" or "JPEG", and `options` are those of Pillow's `save`."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def enlarged(pixels: np.ndarray, side: int = 480) -> Image.Image:
    """uint8 (size, size, channels) as a picture of about `side` pixels in which each pixel is a crisp square."""
    image = image_of(pixels).convert("RGB")
    factor = max(1, side // pixels.shape[0])
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


# Of 1024 × 1024 pixels, 3 MB each.
@lru_cache(maxsize=48)
def _image(path: Path) -> Image.Image:
    return open_image(path)


@lru_cache(maxsize=4096)
def _thumbnail(path: Path) -> str:
    return data_uri(image_of(fit_image(_image(path), THUMBNAIL, 3)), "JPEG", quality=80)


# Of 240 × 240 pixels, 170 kB each.
@lru_cache(maxsize=1024)
def _fitted(
    path: Path,
    size: int,
    channels: int,
    box: Box | None,
    invert: bool | None,
    crop: float | None,
    interpolation: str,
) -> np.ndarray:
    pixels = fit_image(_image(path), size, channels, box, invert, crop=crop, interpolation=interpolation)
    pixels.flags.writeable = False
    return pixels


def _credit(author: str, source: str, licence: str) -> str:
    if source.startswith("https://commons.wikimedia.org/"):
        # Brackets would end the link early.
        source = f"[Wikimedia Commons]({source.replace('(', '%28').replace(')', '%29')})"
    return f"{author} · {licence} · {source}"
