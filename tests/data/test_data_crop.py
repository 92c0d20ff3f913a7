"""The crop that published networks were evaluated with, against stored pixels and against timm itself."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from condconv_mlx.bench.peers import without_torchvision_operators
from condconv_mlx.data import Box, default_crop, fit_image, normalise

# (width, height), size and crop; what timm 1.0.31 makes of it with "bicubic": the sum, and three pixels.
CASES = [
    ((320, 257), 224, 0.875, 19113897, [178, 108, 205], [160, 177, 255], [172, 125, 120]),
    ((257, 513), 240, 0.882, 21970897, [177, 200, 151], [155, 182, 143], [132, 195, 120]),
    ((100, 90), 224, 0.875, 19235563, [86, 195, 186], [93, 217, 198], [37, 124, 207]),
    ((37, 300), 32, 1.0, 385006, [105, 80, 55], [42, 85, 183], [172, 57, 72]),
]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("shape", "size", "crop", "total", "first", "last", "inner"), CASES)
def test_pixels_are_those_of_timm(
    shape: tuple[int, int],
    size: int,
    crop: float,
    total: int,
    first: list[int],
    last: list[int],
    inner: list[int],
) -> None:
    found = fit_image(noise(*shape), size, 3, crop=crop, interpolation="bicubic")
    assert found.shape == (size, size, 3)
    assert int(found.sum()) == total
    assert [found[0, 0].tolist(), found[-1, -1].tolist(), found[size // 2, size // 3].tolist()] == [first, last, inner]


@pytest.fixture(scope="module")
def create_transform() -> Any:
    torch = pytest.importorskip("torch")
    with without_torchvision_operators(torch):
        return pytest.importorskip("timm.data").create_transform


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("size", "crop"), [(224, 0.875), (240, 0.882), (224, 1.0), (32, 0.95)])
@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (333, 333), (257, 256), (64, 700), (30, 41)])
def test_the_whole_transform_is_that_of_timm(
    create_transform: Any, shape: tuple[int, int], size: int, crop: float, interpolation: str
) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    theirs = create_transform(
        input_size=(3, size, size), is_training=False, interpolation=interpolation, mean=mean, std=std, crop_pct=crop
    )
    wanted = theirs(noise(*shape)).numpy().transpose(1, 2, 0)
    found = fit_image(noise(*shape), size, 3, crop=crop, interpolation=interpolation)
    np.testing.assert_allclose(normalise(found[None], mean, std)[0], wanted, atol=2e-6)


def test_without_a_crop_the_whole_square_is_taken() -> None:
    image = noise(100, 80)
    wanted = image.crop((10, 0, 90, 80)).resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=4.0)
    np.testing.assert_array_equal(fit_image(image, 32, 3), wanted)


def test_a_box_is_taken_as_it_is() -> None:
    image, box = noise(300, 200), Box(20, 30, 120)
    found = fit_image(image, 64, 3, box, crop=0.875, interpolation="bicubic")
    np.testing.assert_array_equal(found, fit_image(image, 64, 3, box, interpolation="bicubic"))
    assert (found != fit_image(image, 64, 3, box)).any()


def test_the_box_of_a_crop_shows_about_what_the_crop_shows() -> None:
    across = np.linspace(0, 255, 500)[None, :, None].repeat(400, axis=0).repeat(3, axis=2)
    image = Image.fromarray(across.astype(np.uint8))
    exact = fit_image(image, 224, 3, crop=0.875, interpolation="bicubic")
    boxed = fit_image(image, 224, 3, default_crop(image.size, 0.875), interpolation="bicubic")
    assert np.abs(exact.astype(int) - boxed).max() <= 2


@pytest.mark.parametrize(
    ("size", "fraction", "box"),
    [
        ((400, 320), 0.875, Box(60, 20, 280)),
        ((320, 401), 0.875, Box(20, 60, 280)),
        ((33, 33), 1.0, Box(0, 0, 33)),
        ((1, 1), 0.1, Box(0, 0, 1)),
    ],
)
def test_default_crop_takes_a_fraction(size: tuple[int, int], fraction: float, box: Box) -> None:
    assert default_crop(size, fraction) == box


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (3, 2000)])
def test_a_thin_line_does_not_fill_the_memory(shape: tuple[int, int]) -> None:
    image = Image.new("RGB", shape, (9, 90, 200))
    found = fit_image(image, 224, 3, crop=0.875, interpolation="bicubic")
    assert found.shape == (224, 224, 3) and (found == (9, 90, 200)).all()


def test_grey_is_cropped_too() -> None:
    image = noise(100, 80)
    colour = fit_image(image, 28, 3, crop=0.875, interpolation="bicubic")
    grey = fit_image(image, 28, 1, invert=False, crop=0.875, interpolation="bicubic")
    np.testing.assert_array_equal(grey[:, :, 0], Image.fromarray(colour).convert("L"))


@pytest.mark.parametrize("crop", [0, -0.5, 1.2, float("nan")])
def test_a_bad_crop_is_named(crop: float) -> None:
    with pytest.raises(ValueError, match="crop must be above 0 and at most 1, got"):
        fit_image(noise(40, 30), 32, 3, crop=crop)


def test_a_bad_interpolation_is_named() -> None:
    with pytest.raises(ValueError, match="interpolation must be one of nearest, .*, lanczos, got 'cubic'"):
        fit_image(noise(40, 30), 32, 3, interpolation="cubic")
