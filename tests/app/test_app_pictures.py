"""Samples, crops, and what is drawn of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from app_material import noise
from PIL import Image

from condconv_mlx.app.pictures import ACCENT, SAMPLES, Crop, enlarged, kept, samples, with_crop
from condconv_mlx.app.store import Entry, add_picture
from condconv_mlx.data import Box, ImageError, default_crop, fit_image


@pytest.mark.parametrize("dataset", ["cifar10", "fashion_mnist"])
def test_samples_come_with_source_and_licence(dataset: str) -> None:
    chosen = samples(dataset)
    assert len(chosen) >= 10
    assert all(picture.credit.count(" · ") == 2 for picture in chosen)
    assert len({picture.id for picture in chosen}) == len(chosen)
    assert len({picture.truth for picture in chosen if picture.truth}) == 10


def test_every_sample_file_is_named_once_and_small() -> None:
    entries = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8"))
    files = {path.name for path in SAMPLES.iterdir()} - {"samples.json", "SOURCES.md"}
    assert sorted(entry["file"] for entry in entries) == sorted(files)
    assert {entry["licence"] for entry in entries} <= {"CC0", "public domain", "MIT"}
    assert max((SAMPLES / name).stat().st_size for name in files) < 120_000


def test_other_data_sets_get_photographs_of_unknown_class() -> None:
    chosen = samples("birds of my garden")
    assert [picture.id for picture in chosen] == [picture.id for picture in samples("cifar10")]
    assert {picture.truth for picture in chosen} == {None}


@pytest.mark.parametrize("size", [(640, 427), (427, 641), (33, 32), (1, 50)])
def test_crop_starts_in_the_middle_and_stays_inside(size: tuple[int, int]) -> None:
    assert Crop().box(size) == default_crop(size)
    for crop in (Crop(10, 0, 0), Crop(10, 100, 100), Crop(37, 61, 13), Crop(100, 100, 0)):
        box = crop.box(size)
        assert 1 <= box.size <= min(size)
        assert 0 <= box.left <= size[0] - box.size
        assert 0 <= box.top <= size[1] - box.size


def test_crop_moves() -> None:
    assert Crop(50, 0, 0).box((200, 100)) == Box(0, 0, 50)
    assert Crop(50, 100, 100).box((200, 100)) == Box(150, 50, 50)
    assert Crop(100, 0, 50).box((200, 100)) == Box(0, 0, 100)


def test_crop_is_drawn_where_it_lies() -> None:
    white = Image.new("RGB", (200, 100), "white")
    shown = with_crop(white, Box(100, 0, 100), width=400)
    assert shown.size == (400, 200)
    assert shown.getpixel((300, 100)) == (255, 255, 255)
    assert shown.getpixel((200, 100)) == ACCENT
    assert shown.getpixel((50, 100)) != (255, 255, 255)


def test_a_crop_of_everything_leaves_the_picture_alone() -> None:
    white = Image.new("RGB", (64, 64), "white")
    assert np.asarray(with_crop(white, Box(0, 0, 64))).min() == 255


@pytest.mark.parametrize("channels", [1, 3])
def test_enlarged_pixels_are_crisp_squares(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, channels), dtype=np.uint8)
    image = np.asarray(enlarged(pixels, 280))
    assert image.shape == (280, 280, 3)
    np.testing.assert_array_equal(image[5::10, 5::10], np.broadcast_to(pixels, (28, 28, 3)))
    np.testing.assert_array_equal(image[::10, ::10], image[9::10, 9::10])


def test_uploads_are_kept_small_and_once(store: Path) -> None:
    id = add_picture(noise(0, 1500), "a.png")
    picture = kept(Entry(id, "a.png"))
    assert picture.image.size == (1024, 1024)
    assert (picture.title, picture.credit, picture.truth) == ("a.png", "", None)
    assert add_picture(noise(0, 1500), "b.png") == id
    assert [path.name for path in (store / "images").iterdir()] == [f"{id}.png"]


def test_a_bad_upload_names_its_file(store: Path) -> None:
    with pytest.raises(ImageError, match="a.png"):
        add_picture(b"no picture", "a.png")
    assert not store.exists()


def test_thumbnail_is_an_address() -> None:
    assert samples("cifar10")[0].thumbnail.startswith("data:image/jpeg;base64,")


def test_what_the_network_sees_is_kept_for_all_and_cannot_be_changed() -> None:
    picture = samples("cifar10")[1]
    seen = picture.fitted(32, 3, None, None, None, "lanczos")
    np.testing.assert_array_equal(seen, fit_image(picture.image, 32, 3))
    assert picture.fitted(32, 3, None, None, None, "lanczos") is seen
    with pytest.raises(ValueError):
        seen[0] = 0
