"""Each operation on a batch against Pillow on one image, and against a plain loop."""

import colorsys
import math

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from condconv_mlx.data import policy

FILL = (26, 128, 178)


def scene(count: int, height: int, width: int, channels: int) -> np.ndarray:
    """Waves with some noise, of differing range, so that neither edges nor flat parts are all there is."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:height, :width]
    phase = rng.random((count, 1, 1, channels)) * 6
    waves = 0.5 + 0.4 * np.sin(x[..., None] / 3 + phase) * np.cos(y[..., None] / 4 + 2 * phase)
    low, high = rng.integers(0, 100, (count, 1, 1, channels)), rng.integers(120, 256, (count, 1, 1, channels))
    noisy = low + (high - low) * waves + rng.normal(0, 6, waves.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def as_pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def from_pillow(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def run(images: np.ndarray, name: str, signs: np.ndarray | None = None, magnitude: float = 18) -> np.ndarray:
    chosen = np.full(len(images), policy.OPERATIONS.index(name))
    signs = np.ones(len(images), int) if signs is None else signs
    fill = mx.array(np.array(FILL[: images.shape[-1]], np.uint8))
    result = policy.apply(mx.array(images), chosen, signs, magnitude, fill)
    assert result.dtype == mx.uint8 and result.shape == images.shape
    return np.array(result)


@pytest.mark.parametrize("shape", [(6, 17, 13, 3), (4, 8, 9, 1), (2, 2, 5, 3)])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("colour", ImageEnhance.Color),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
def test_enhancements(name: str, enhance: type, shape: tuple[int, ...]) -> None:
    images = scene(*shape)
    signs = np.array([1, -1] * 3)[: shape[0]]
    found = run(images, name, signs)
    for image, sign, result in zip(images, signs, found, strict=True):
        wanted = from_pillow(enhance(as_pillow(image)).enhance(1 + 0.9 * 18 / 30 * sign))
        np.testing.assert_allclose(result, wanted.astype(int), atol=1)
        assert (result == wanted).mean() > 0.99


@pytest.mark.parametrize("turn", [0.0, 0.1, -0.25, 1 / 3, 0.5, -0.5])
def test_hue_is_that_of_hsv(turn: float) -> None:
    images = scene(3, 17, 13, 3)
    # Greys, black, pure colours, and two channels alike.
    images[0, 0, :6] = [[9, 9, 9], [0, 0, 0], [255, 0, 0], [0, 255, 255], [80, 80, 10], [10, 80, 80]]
    turns = np.array([turn, 0, -turn], np.float32)
    found = np.array(policy.hue(mx.array(images), mx.array(turns)))
    assert found.dtype == np.uint8
    for image, own, result in zip(images, turns, found, strict=True):
        for pixel, seen in zip(image.reshape(-1, 3), result.reshape(-1, 3), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255.0))
            wanted = 255 * np.array(colorsys.hsv_to_rgb((hue + own) % 1, saturation, value))
            np.testing.assert_allclose(seen, wanted, atol=0.501)
    np.testing.assert_array_equal(found[1], images[1])


def test_a_third_of_a_turn_makes_red_green_and_grey_pictures_stay() -> None:
    pixels = mx.array(np.array([[[[200, 30, 30]]]], np.uint8))
    assert np.array(policy.hue(pixels, mx.array([1 / 3]))).ravel().tolist() == [30, 200, 30]
    grey = scene(2, 5, 4, 1)
    np.testing.assert_array_equal(np.array(policy.hue(mx.array(grey), mx.array([0.2, 0.4]))), grey)


@pytest.mark.parametrize("magnitude", [0, 9, 18, 30])
@pytest.mark.parametrize("shape", [(5, 17, 13, 3), (4, 8, 9, 1)])
def test_posterize_and_solarize(shape: tuple[int, ...], magnitude: int) -> None:
    images = scene(*shape)
    images[0, :2] = 255
    for image, dull, sunny in zip(
        images, run(images, "posterize", None, magnitude), run(images, "solarize", None, magnitude), strict=True
    ):
        bits = 8 - round(4 * magnitude / 30)
        np.testing.assert_array_equal(dull, from_pillow(ImageOps.posterize(as_pillow(image), bits)))
        threshold = math.ceil(255 * (1 - magnitude / 30))
        np.testing.assert_array_equal(sunny, from_pillow(ImageOps.solarize(as_pillow(image), threshold)))


def special(shape: tuple[int, ...]) -> np.ndarray:
    """Images with one value, two values, all values, and the usual."""
    images = scene(*shape)
    images[0] = 77
    images[1] = 10
    images[1, 3:, 2:] = 200
    images[2] = np.resize(np.arange(256), images[2].shape)
    images[3, ..., 0] = 255
    return images


@pytest.mark.parametrize("shape", [(7, 20, 21, 3), (7, 28, 28, 1), (5, 300, 3, 3)])
def test_autocontrast(shape: tuple[int, ...]) -> None:
    images = special(shape)
    found = run(images, "autocontrast")
    for image, result in zip(images, found, strict=True):
        wanted = from_pillow(ImageOps.autocontrast(as_pillow(image)))
        # Pillow computes with fractions, which may fall just short of a whole number.
        np.testing.assert_allclose(result, wanted.astype(int), atol=1)
        for channel in range(shape[-1]):
            low, high = int(image[..., channel].min()), int(image[..., channel].max())
            if high > low:
                stretched = (image[..., channel].astype(int) - low) * 255 // (high - low)
                np.testing.assert_array_equal(result[..., channel], stretched)


@pytest.mark.parametrize("shape", [(7, 20, 21, 3), (7, 28, 28, 1), (5, 300, 3, 3)])
def test_equalize(shape: tuple[int, ...]) -> None:
    images = special(shape)
    for image, result in zip(images, run(images, "equalize"), strict=True):
        np.testing.assert_array_equal(result, from_pillow(ImageOps.equalize(as_pillow(image))))


def coefficients(name: str, strength: float, height: int, width: int) -> tuple[float, ...]:
    """What Pillow's transform wants, put together from moves to the middle and back."""
    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2] = -width / 2, -height / 2
    back[:2, 2] = width / 2, height / 2
    change = np.eye(3)
    if name == "rotate":
        angle = np.radians(30 * strength)
        change[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    elif name.startswith("shear"):
        change[(0, 1) if name.endswith("x") else (1, 0)] = 0.3 * strength
    else:
        axis = "xy".index(name[-1])
        change[axis, 2] = 150 / 331 * strength * (width, height)[axis]
    return tuple((back @ change @ to_middle)[:2].ravel())


def sampled(image: np.ndarray, matrix: tuple[float, ...]) -> np.ndarray:
    """A plain loop: bilinear between the centres of pixels, the outermost half pixel flat, FILL outside."""
    height, width, channels = image.shape
    result = np.empty(image.shape)
    a, b, c, d, e, f = matrix
    for row in range(height):
        for column in range(width):
            x = a * (column + 0.5) + b * (row + 0.5) + c
            y = d * (column + 0.5) + e * (row + 0.5) + f
            if not (0 <= x < width and 0 <= y < height):
                result[row, column] = FILL[:channels]
                continue
            x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
            left, top = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            u, v = x - left, y - top
            upper = image[top, left] * (1 - u) + image[top, right] * u
            lower = image[bottom, left] * (1 - u) + image[bottom, right] * u
            result[row, column] = upper * (1 - v) + lower * v
    return result


@pytest.mark.parametrize("name", policy.GEOMETRIC)
@pytest.mark.parametrize("shape", [(4, 17, 13, 3), (4, 12, 12, 1)])
def test_geometry(name: str, shape: tuple[int, ...]) -> None:
    images = scene(*shape)
    signs = np.array([1, -1, -1, 1])
    found = run(images, name, signs)
    fill = FILL if shape[-1] == 3 else FILL[0]
    for image, sign, result in zip(images, signs, found, strict=True):
        matrix = coefficients(name, 18 / 30 * sign, *shape[1:3])
        np.testing.assert_allclose(result, sampled(image, matrix), atol=0.51)
        pillow = as_pillow(image)
        wanted = pillow.transform(
            pillow.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
        )
        np.testing.assert_allclose(result, from_pillow(wanted).astype(int), atol=1)


@pytest.mark.parametrize("name", ["identity", *policy.GEOMETRIC, "brightness", "contrast", "colour", "sharpness"])
def test_no_magnitude_changes_nothing(name: str) -> None:
    images = scene(3, 9, 8, 3)
    np.testing.assert_array_equal(run(images, name, magnitude=0), images)


def test_turning_left_and_right_differ() -> None:
    images = np.repeat(scene(1, 16, 16, 1), 2, axis=0)
    for name in (*policy.GEOMETRIC, "brightness", "contrast", "sharpness"):
        right, left = run(images, name, np.array([1, -1]))
        assert (right != left).any(), name


def test_each_image_gets_its_own_operation() -> None:
    rng = np.random.default_rng(0)
    images = scene(40, 9, 8, 3)
    chosen, signs = rng.integers(0, len(policy.OPERATIONS), 40), rng.choice((-1, 1), 40)
    assert set(chosen) == set(range(len(policy.OPERATIONS)))
    found = policy.apply(mx.array(images), chosen, signs, 12, mx.array(np.array(FILL, np.uint8)))
    for n, result in enumerate(np.array(found)):
        (alone,) = run(images[n : n + 1], policy.OPERATIONS[chosen[n]], signs[n : n + 1], 12)
        np.testing.assert_array_equal(result, alone)
