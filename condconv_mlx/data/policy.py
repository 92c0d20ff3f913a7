"""The operations of RandAugment (Cubuk et al., arXiv 1909.13719), and a change of hue, each on a whole batch.

They do what Pillow does with one image, to the pixel where that is integer arithmetic. Images are uint8 (N, H, W, C)
with C 1 or 3. All images of a batch have the same magnitude; which operation each gets, and which way it goes, is
drawn by the caller.
"""

from collections.abc import Callable
from functools import partial

import mlx.core as mx
import numpy as np

STRONGEST = 30  # on RandAugment's scale of magnitudes
# At the strongest.
DEGREES = 30
SHEAR = 0.3
TRANSLATION = 150 / 331  # of the image
ENHANCEMENT = 0.9  # away from the factor 1, which changes nothing
LOST_BITS = 4

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (
    "identity",
    *GEOMETRIC,
    "brightness",
    "contrast",
    "colour",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)


def apply(images: mx.array, chosen: np.ndarray, signs: np.ndarray, magnitude: float, fill: mx.array) -> mx.array:
    """One operation on each image.

    Args:
        images: (N, H, W, C) uint8.
        chosen: (N,) indices into OPERATIONS.
        signs: (N,) 1 or -1: right or left, more or less.
        magnitude: from 0 to 30.
        fill: (C,) uint8, the colour of what comes in from outside.

    Returns:
        As images.
    """
    names = np.array(["affine" if name in GEOMETRIC else name for name in OPERATIONS])[chosen]
    strength = magnitude / STRONGEST
    groups, results = [], []
    for name in np.unique(names):
        group = np.flatnonzero(names == name)
        members = images[mx.array(group)]
        if name == "affine":
            matrices = _matrices(chosen[group], signs[group] * strength, images.shape[1], images.shape[2])
            members = affine(members, matrices, fill)
        elif name in _ENHANCEMENTS:
            members = _ENHANCEMENTS[name](
                members, mx.array((1 + ENHANCEMENT * strength * signs[group]).astype(np.float32))
            )
        elif name != "identity":
            members = _point_operation(name, strength)(members)
        groups.append(group)
        results.append(members)
    if not groups:
        return images
    return mx.concatenate(results)[mx.array(np.argsort(np.concatenate(groups)))]


def affine(images: mx.array, matrices: np.ndarray, fill: mx.array) -> mx.array:
    """Pixel (x, y) comes from (a·x + b·y + c, d·x + e·y + f), of centres that lie at halves; bilinear.

    images (N, H, W, C) uint8, matrices (N, 6) of a to f, fill (C,) uint8 for what lies outside -> as images.
    """
    count, height, width, channels = images.shape
    a, b, c, d, e, f = (mx.array(column.astype(np.float32))[:, None, None] for column in matrices.T)
    x, y = mx.arange(width) + 0.5, (mx.arange(height) + 0.5)[:, None]
    from_x, from_y = a * x + b * y + c, d * x + e * y + f
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    left, top = mx.floor(from_x - 0.5), mx.floor(from_y - 0.5)
    right_share, lower_share = (from_x - 0.5 - left)[..., None], (from_y - 0.5 - top)[..., None]
    pixels = images.reshape(count * height * width, channels)
    start = mx.arange(count)[:, None, None] * (height * width)

    def at(column: mx.array, row: mx.array) -> mx.array:
        column, row = (mx.clip(v, 0, last).astype(mx.int32) for v, last in ((column, width - 1), (row, height - 1)))
        return pixels[start + row * width + column].astype(mx.float32)

    upper, lower = (at(left, row) * (1 - right_share) + at(left + 1, row) * right_share for row in (top, top + 1))
    blended = upper * (1 - lower_share) + lower * lower_share
    return mx.where(inside[..., None], (blended + 0.5).astype(mx.uint8), fill)


def brightness(images: mx.array, factors: mx.array) -> mx.array:
    """Blend with black; factors (N,) float32, 1 for no change."""
    return _away_from(mx.array(0, mx.uint8), images, factors)


def contrast(images: mx.array, factors: mx.array) -> mx.array:
    """Blend with the mean grey of each image."""
    grey = _grey(images)
    count = grey.shape[1] * grey.shape[2]
    mean = (2 * grey.sum(axis=(1, 2, 3), keepdims=True) + count) // (2 * count)
    return _away_from(mean, images, factors)


def colour(images: mx.array, factors: mx.array) -> mx.array:
    """Blend with the grey of each pixel."""
    return images if images.shape[-1] == 1 else _away_from(_grey(images), images, factors)


def hue(images: mx.array, turns: mx.array) -> mx.array:
    """Move hues round the circle of HSV; turns (N,) float32, 1 for all of it. Greatest and least value stay."""
    if images.shape[-1] == 1:
        return images
    wide = images.astype(mx.float32)
    red, green, blue = (wide[..., channel] for channel in range(3))
    value = wide.max(axis=-1)
    chroma = value - wide.min(axis=-1)
    scale = 1 / mx.maximum(chroma, 1)
    # In sixths of a turn, from red; of a grey it does not matter.
    angle = mx.where(
        value == red,
        (green - blue) * scale,
        mx.where(value == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
    )
    angle = angle + 6 * turns[:, None, None]
    channels = []
    for start in (5, 3, 1):
        place = (angle + start) % 6
        channels.append(value - chroma * mx.clip(mx.minimum(place, 4 - place), 0, 1))
    return mx.round(mx.stack(channels, axis=-1)).astype(mx.uint8)


def sharpness(images: mx.array, factors: mx.array) -> mx.array:
    """Blend with a smoothed image, whose outermost pixels stay as they are."""
    if min(images.shape[1:3]) < 3:
        return images
    wide = images.astype(mx.int32)
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    middle = wide[:, 1:-1, 1:-1]
    # The pixel counts 5 times, its 8 neighbours once each.
    change = mx.pad((2 * (around + 4 * middle) + 13) // 26 - middle, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return _away_from(wide + change, images, factors)


def posterize(images: mx.array, bits: int) -> mx.array:
    """Keep the `bits` highest bits of each value."""
    return images & mx.array(256 - 2 ** (8 - bits), mx.uint8)


def solarize(images: mx.array, threshold: float) -> mx.array:
    """Invert the values from the threshold on."""
    return mx.where(images < threshold, images, 255 - images)


def autocontrast(images: mx.array) -> mx.array:
    """Stretch each channel from its least to its greatest value over 0 … 255."""
    wide = images.astype(mx.int32)
    low, high = wide.min(axis=(1, 2), keepdims=True), wide.max(axis=(1, 2), keepdims=True)
    stretched = (wide - low) * 255 // mx.maximum(high - low, 1)
    return mx.where(high > low, stretched, wide).astype(mx.uint8)


def equalize(images: mx.array) -> mx.array:
    """Spread the values of each channel so that each is about as frequent."""
    count, height, width, channels = images.shape
    # One histogram for each channel of each image, side by side.
    first = 256 * mx.arange(count * channels).reshape(count, 1, 1, channels)
    place = images.astype(mx.int32) + first
    histogram = mx.zeros(256 * count * channels, mx.int32).at[place.flatten()].add(1).reshape(-1, 256)
    below = mx.cumsum(histogram, axis=1) - histogram
    # The greatest value that occurs does not count: nothing is above it.
    last = mx.where(histogram > 0, mx.arange(256), 0).max(axis=1, keepdims=True)
    step = mx.take_along_axis(below, last, axis=1) // 255
    table = mx.minimum((step // 2 + below) // mx.maximum(step, 1), 255)
    table = mx.where(step > 0, table, mx.arange(256)).astype(mx.uint8)
    return table.flatten()[place]


_ENHANCEMENTS: dict[str, Callable[[mx.array, mx.array], mx.array]] = {
    "brightness": brightness,
    "contrast": contrast,
    "colour": colour,
    "sharpness": sharpness,
}


def _point_operation(name: str, strength: float) -> Callable[[mx.array], mx.array]:
    """Those that know no sign."""
    operations: dict[str, Callable[[mx.array], mx.array]] = {
        "posterize": partial(posterize, bits=8 - round(LOST_BITS * strength)),
        "solarize": partial(solarize, threshold=255 * (1 - strength)),
        "autocontrast": autocontrast,
        "equalize": equalize,
    }
    return operations[name]


def _matrices(chosen: np.ndarray, strengths: np.ndarray, height: int, width: int) -> np.ndarray:
    """For `affine`: (N, 6). Turned and sheared about the middle."""
    name = np.array(OPERATIONS)[chosen]
    angle = np.radians(DEGREES) * strengths * (name == "rotate")
    cos, sin = np.cos(angle), np.sin(angle)
    a, b, d, e = cos, sin + SHEAR * strengths * (name == "shear_x"), -sin + SHEAR * strengths * (name == "shear_y"), cos
    x, y = width / 2, height / 2
    c = x - a * x - b * y + width * TRANSLATION * strengths * (name == "translate_x")
    f = y - d * x - e * y + height * TRANSLATION * strengths * (name == "translate_y")
    return np.stack([a, b, c, d, e, f], axis=1)


def _away_from(plain: mx.array, images: mx.array, factors: mx.array) -> mx.array:
    """plain + factor · (images - plain), cut off at 0 and 255 and rounded down, as Pillow does."""
    start = plain.astype(mx.float32)
    blended = start + factors[:, None, None, None] * (images.astype(mx.float32) - start)
    return mx.clip(blended, 0, 255).astype(mx.uint8)


def _grey(images: mx.array) -> mx.array:
    """(N, H, W, 1) int32: the luminance of ITU-R 601-2 in 16 bits, rounded."""
    wide = images.astype(mx.int32)
    if images.shape[-1] == 1:
        return wide
    red, green, blue = (wide[..., channel : channel + 1] for channel in range(3))
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
