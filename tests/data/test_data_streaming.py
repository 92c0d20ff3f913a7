"""Images that are decoded when they are taken: the same as in memory, ahead of time, in bounds, and named when gone."""

import gc
import io
import os
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from condconv_mlx.data import (
    DataError,
    Dataset,
    StreamedImages,
    archive,
    folder,
    load_folder,
    statistics,
    streaming,
    subset,
    transforms,
)
from condconv_mlx.data.pictures import Picture


def noise(seed: int, size: tuple[int, int] = (40, 40), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    for number in range(24):
        path = tmp_path / "birds" / ("robin", "wren")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(number, (40 + number % 3, 40)).save(path)
    (tmp_path / "birds/wren/broken one.png").write_bytes(b"x")
    return tmp_path / "birds"


def zipped(path: Path) -> Path:
    target = path.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as file:
        for picture in sorted(path.rglob("*.png")):
            file.write(picture, picture.relative_to(path))
    return target


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    def load(path: Path, streamed: bool, **options: int) -> Dataset:
        monkeypatch.setattr(folder, "IN_MEMORY", 10_000 if streamed else 2**30)
        return load_folder(path, tmp_path / "cache", progress=False, **options)

    return load


def in_memory(*colours: int, opened: Callable[[int], None] = lambda number: None) -> StreamedImages:
    """One colour an image, of 8×8 pixels. `opened` is called with the number of each that is opened."""

    def picture(number: int, colour: int) -> Picture:
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (colour, 0, 255 - colour)).save(file, "PNG")

        def open() -> IO[bytes]:
            opened(number)
            return io.BytesIO(file.getvalue())

        return Picture(f"{number}.png", "", open)

    return StreamedImages([picture(number, colour) for number, colour in enumerate(colours)], 8, 3)


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_as_in_memory(form: str, seed: int, birds: Path, load: Callable[..., Dataset]) -> None:
    path = zipped(birds) if form == "zip" else birds
    here, streamed = (load(path, streamed, size=36, seed=seed) for streamed in (False, True))
    assert isinstance(here.train_images, np.ndarray)
    for split in ("train", "test"):
        images, wanted = getattr(streamed, f"{split}_images"), getattr(here, f"{split}_images")
        assert isinstance(images, StreamedImages)
        assert (len(images), images.shape, images.ndim, images.dtype) == (len(wanted), wanted.shape, 4, np.uint8)
        np.testing.assert_array_equal(images[:], wanted)
        np.testing.assert_array_equal(getattr(streamed, f"{split}_labels"), getattr(here, f"{split}_labels"))
    assert streamed.summary() == here.summary()
    assert list(streamed.skipped) == ["wren/broken one.png"] and streamed.skipped == here.skipped


def test_only_grey_pictures_give_one_channel(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(4):
            noise(number, mode="L").save(tmp_path / "set" / label / f"{number}.png")
    images = [load(tmp_path / "set", streamed, size=48).train_images for streamed in (True, False)]
    assert images[0].shape == (6, 48, 48, 1)
    np.testing.assert_array_equal(images[0][:], images[1])
    noise(5).save(tmp_path / "set/a/4.png")
    assert load(tmp_path / "set", True, size=48).train_images.shape == (7, 48, 48, 3)


def test_what_is_readable_is_found_out_once(
    birds: Path, load: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(birds, True, size=36)
    looked = folder.check_all

    def refuse(*_: object) -> None:
        raise AssertionError("checked again")

    monkeypatch.setattr(folder, "check_all", refuse)
    for options in ({"size": 36}, {"size": 90}, {"size": 36, "seed": 3}):
        again = load(birds, True, **options)
        assert again.skipped == first.skipped
    np.testing.assert_array_equal(load(birds, True, size=36).train_images[:], first.train_images[:])
    noise(99).save(birds / "wren/broken one.png")
    monkeypatch.setattr(folder, "check_all", looked)
    assert not load(birds, True, size=36).skipped


def test_a_damaged_record_is_made_anew(birds: Path, load: Callable[..., Dataset], tmp_path: Path) -> None:
    wanted = load(birds, True, size=36)
    (file,) = (tmp_path / "cache").rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert load(birds, True, size=36).skipped == wanted.skipped


def test_too_few_that_can_be_read(birds: Path, load: Callable[..., Dataset]) -> None:
    for path in sorted(birds.glob("wren/[0-9]*.png"))[1:]:
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"too few pictures in wren \(1\), .*; unreadable: wren/03.png, wren/05.png"):
        load(birds, True, size=36)


@pytest.mark.parametrize(
    "index",
    [
        3,
        -1,
        slice(None),
        slice(1, 4),
        slice(None, None, -2),
        [4, 0, 4],
        np.array([[1, 2], [3, 0]]),
        [True, False] * 3,
        np.array([], int),
    ],
    ids=str,
)
def test_taken_like_an_array(index: object) -> None:
    images = in_memory(10, 20, 30, 40, 50, 60)
    array = np.zeros((6, 8, 8, 3), np.uint8)
    array[..., 0] = np.array([10, 20, 30, 40, 50, 60])[:, None, None]
    array[..., 2] = 255 - array[..., 0]
    np.testing.assert_array_equal(images[index], array[index])  # type: ignore[call-overload]


def test_a_subset_is_decoded_only_when_taken() -> None:
    opened: list[int] = []
    images = in_memory(10, 20, 30, 40, opened=opened.append)
    some = subset(images, np.array([3, 1]))
    assert isinstance(some, StreamedImages) and some.shape == (2, 8, 8, 3) and not opened
    assert some[:][:, 0, 0, 0].tolist() == [40, 20] and sorted(opened) == [1, 3]
    np.testing.assert_array_equal(subset(images[:], np.array([3, 1])), some[:])


def test_an_index_beyond_the_end() -> None:
    with pytest.raises(IndexError):
        in_memory(10, 20)[[2]]


def test_batches_come_in_order_whatever_is_decoded_first() -> None:
    rng = np.random.default_rng(0)
    colours = rng.permutation(256)[:60]
    images = in_memory(*colours.tolist(), opened=lambda number: time.sleep(0.003 * (number % 3)))
    batches = [rng.integers(0, 60, 7) for _ in range(12)]
    found = list(images.prefetch(batches))
    assert [batch[:, 0, 0, 0].tolist() for batch in found] == [colours[batch].tolist() for batch in batches]
    later = list(images.prefetch(batches[5:]))
    np.testing.assert_array_equal(later, found[5:])


@pytest.mark.parametrize("room", [1, 2 * 5 * 8 * 8 * 3, 2**20])
def test_decoding_runs_ahead_but_not_far(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "AHEAD_BYTES", room)
    # The first batch is in the caller's hands.
    ahead = {1: 1, 1920: 2, 2**20: streaming.AHEAD}[room]
    opened: list[int] = []
    images = in_memory(*range(100), opened=opened.append)
    batches = iter(images.prefetch(np.arange(100).reshape(20, 5)))
    for number in range(1, 20 - ahead):
        next(batches)
        wanted = 5 * (number + ahead)
        deadline = time.monotonic() + 10
        while len(opened) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        assert sorted(opened) == list(range(wanted))
    assert len(list(batches)) == 1 + ahead


def test_pictures_are_decoded_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    together = threading.Barrier(3, timeout=10)

    def wait(number: int) -> None:
        together.wait()

    images = in_memory(*range(6), opened=wait)
    assert images[:].shape == (6, 8, 8, 3)


def test_closing_ends_the_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    opened: list[int] = []
    go_on = threading.Event()

    def wait(number: int) -> None:
        opened.append(number)
        if number:
            go_on.wait(10)

    images = in_memory(*range(50), opened=wait)
    batches = images.prefetch([np.array([0])] + [np.arange(1, 50)] * 3)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    go_on.set()
    images[0]
    assert opened in ([0, 0], [0, 1, 0])


def test_a_picture_that_is_gone_since_is_named(birds: Path, load: Callable[..., Dataset]) -> None:
    found = load(birds, True, size=36)
    (birds / "robin/02.png").unlink()
    (birds / "robin/04.png").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"robin/02.png cannot be read \(No such file or directory\)\. It could be read"
    ):
        list(found.train_images.prefetch(np.arange(20).reshape(4, 5)))  # type: ignore[union-attr]
    # What is left can still be taken.
    assert found.train_images[-1].shape == (36, 36, 3)


def test_a_zip_is_open_while_its_images_are_in_use(
    birds: Path, load: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = archive._open_bounded

    def recorded(path: Path) -> archive._Bounded:
        opened.append(original(path))
        return opened[-1]

    monkeypatch.setattr(archive, "_open_bounded", recorded)
    path = zipped(birds)
    load(path, False, size=36)
    gc.collect()
    assert opened[0].closed
    dataset = load(path, True, size=36)
    test = dataset.test_images
    del dataset
    gc.collect()
    assert not opened[1].closed and test[:].shape == (4, 36, 36, 3)
    del test
    gc.collect()
    assert opened[1].closed
    path.write_bytes(b"PK")
    with pytest.raises(DataError):
        load(path, True)
    assert opened[2].closed


def test_statistics_are_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    colours = np.random.default_rng(0).integers(0, 256, 30)
    images = in_memory(*colours.tolist(), opened=opened.append)
    chosen = np.arange(29, 4, -1)
    assert statistics(images, chosen) == statistics(images[chosen])
    monkeypatch.setattr(transforms, "SAMPLED", 9)
    opened.clear()
    assert statistics(images, chosen) == statistics(images[chosen[::3]])
    assert sorted(opened[:9]) == sorted(chosen[::3])
