"""Folders of pictures: layout, sizes, channels, the cache, and what is wrong with a folder."""

import os
import shutil
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from condconv_mlx.data import DataError, Dataset, decoding, folder, load_dataset, load_folder, pictures


def colour_image(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def fill(path: Path, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(path / name)
    return path


def small(path: Path, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Path:
    """Two classes with two training pictures and one test picture each."""
    names = [f"{split}/{label}/{name}" for split in ("train", "test") for label in ("zebra", "ant") for name in "ab"]
    names = [f"{name}.png" for name in names if not (name.startswith("test") and name.endswith("b"))]
    return fill(path, {name: colour_image(seed, size, mode) for seed, name in enumerate(names)})


def load(path: Path, cache: Path) -> Dataset:
    return load_folder(path, cache, progress=False)


def test_a_folder(tmp_path: Path) -> None:
    path = small(tmp_path / "animals")
    found = load_dataset(f"folder:{path}", tmp_path / "cache", progress=False)
    assert found.name == "animals" and found.labels == ["ant", "zebra"] and str(path) in found.source
    assert found.train_images.shape == (4, 32, 32, 3) and found.train_images.dtype == np.uint8
    assert found.test_images.shape == (2, 32, 32, 3)
    assert found.train_labels.tolist() == [0, 0, 1, 1] and found.train_labels.dtype == np.int32
    assert found.test_labels.tolist() == [0, 1] and found.test_labels.dtype == np.int32
    order = ["ant/a", "ant/b", "zebra/a", "zebra/b"]
    for image, name in zip(found.train_images, order, strict=True):
        np.testing.assert_array_equal(image, Image.open(path / "train" / f"{name}.png"))


@pytest.mark.parametrize(
    ("size", "side"), [((28, 28), 28), ((48, 48), 48), ((300, 300), 64), ((8, 8), 28), ((80, 60), 32)]
)
def test_the_common_size(size: tuple[int, int], side: int, tmp_path: Path) -> None:
    found = load(small(tmp_path / "set", size), tmp_path / "cache")
    assert found.train_images.shape == (4, side, side, 3)


def test_differing_sizes_are_cropped_and_shrunk(tmp_path: Path) -> None:
    path = small(tmp_path / "set")
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste((0, 0, 255), (30, 0, 60, 30))
    wide.save(path / "train/ant/wide.png")
    found = load(path, tmp_path / "cache")
    assert found.train_images.shape == (5, 32, 32, 3)
    assert (found.train_images[2] == (0, 0, 255)).all()


def test_only_grey_pictures_give_one_channel(tmp_path: Path) -> None:
    path = small(tmp_path / "set", mode="L")
    found = load(path, tmp_path / "cache")
    assert found.train_images.shape == (4, 32, 32, 1) and found.test_images.shape == (2, 32, 32, 1)
    np.testing.assert_array_equal(found.train_images[0, ..., 0], Image.open(path / "train/ant/a.png"))
    colour_image(9).save(path / "test/ant/colourful.png")
    assert load(path, tmp_path / "cache").train_images.shape == (4, 32, 32, 3)


def test_dark_on_light_pictures_are_not_inverted(tmp_path: Path) -> None:
    image = Image.new("L", (32, 32), 255)
    image.paste(0, (8, 8, 24, 24))
    names = [f"{split}/{label}/a.png" for split in ("train", "test") for label in ("one", "two")]
    path = fill(tmp_path / "set", dict.fromkeys(names, image))
    np.testing.assert_array_equal(load(path, tmp_path / "cache").train_images[0, ..., 0], image)


def test_other_files_are_left_out(tmp_path: Path) -> None:
    path = small(tmp_path / "set")
    (path / "train/ant/.DS_Store").write_bytes(b"x")
    (path / "train/ant/._a.png").write_bytes(b"x")
    (path / "train/ant/notes.txt").write_text("x")
    (path / "train/.hidden").mkdir()
    (path / "train/readme.md").write_text("x")
    assert load(path, tmp_path / "cache").train_labels.tolist() == [0, 0, 1, 1]


def test_the_second_time_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = small(tmp_path / "set"), tmp_path / "cache"
    first = load(path, cache)
    assert len(list(cache.rglob("*"))) == 2, "one folder and one file"

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(folder, "decode_all", refuse)
    second = load(path, cache)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert getattr(first, name).dtype == getattr(second, name).dtype
    assert (first.name, first.labels, first.source) == (second.name, second.labels, second.source)


def test_a_changed_folder_is_decoded_anew(tmp_path: Path) -> None:
    path, cache = small(tmp_path / "set"), tmp_path / "cache"
    load(path, cache)
    colour_image(50).save(path / "train/ant/c.png")
    assert len(load(path, cache).train_images) == 5
    colour_image(51).save(path / "train/ant/c.png")
    os.utime(path / "train/ant/c.png", ns=(1, 1))
    np.testing.assert_array_equal(load(path, cache).train_images[2], colour_image(51))
    (path / "train/ant/c.png").rename(path / "train/zebra/c.png")
    assert load(path, cache).train_labels.tolist() == [0, 0, 1, 1, 1]
    assert len(list(cache.rglob("*.npz"))) == 1, "earlier states are cleared away"


def test_folders_of_one_name_do_not_share(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load(small(tmp_path / "one/set"), cache)
    load(small(tmp_path / "two/set", (40, 40)), cache)
    assert len(list(cache.rglob("*.npz"))) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_cache_is_made_anew(damage: str, tmp_path: Path) -> None:
    path, cache = small(tmp_path / "set"), tmp_path / "cache"
    wanted = load(path, cache)
    (file,) = cache.rglob("*.npz")
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 255
    elif damage == "empty":
        content = bytearray()
    else:
        np.savez(file, train_images=np.zeros(3))
        content = bytearray(file.read_bytes())
    file.write_bytes(content)
    np.testing.assert_array_equal(load(path, cache).train_images, wanted.train_images)
    np.testing.assert_array_equal(load(path, cache).test_images, wanted.test_images)


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    path = small(tmp_path / "set")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept in"):
        assert len(load(path, tmp_path / "cache").train_images) == 4


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_file_that_is_no_picture_is_left_out_and_named(time: str, tmp_path: Path) -> None:
    path, cache = small(tmp_path / "set"), tmp_path / "cache"
    (path / "train/ant/a.png").write_bytes(b"not a picture")
    (path / "test/ant/empty.jpg").write_bytes(b"")
    (path / "test/zebra/cut.png").write_bytes((path / "test/zebra/a.png").read_bytes()[:200])
    if time == "second":
        load(path, cache)
    found = load(path, cache)
    assert found.train_labels.tolist() == [0, 1, 1] and found.test_labels.tolist() == [0, 1]
    np.testing.assert_array_equal(found.train_images[0], Image.open(path / "train/ant/b.png"))
    assert list(found.skipped) == ["train/ant/a.png", "test/ant/empty.jpg", "test/zebra/cut.png"]
    assert found.skipped["test/zebra/cut.png"].startswith("test/zebra/cut.png is damaged")
    assert found.summary().endswith("3 unreadable left out")


def test_a_file_that_may_not_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "set")

    def refuse(path: str) -> IO[bytes]:
        if path.endswith("ant/b.png"):
            raise PermissionError(13, "Permission denied", path)
        return open(path, "rb")

    monkeypatch.setattr(pictures, "_opened", refuse)
    assert load(path, tmp_path / "cache").skipped == {
        "train/ant/b.png": "train/ant/b.png cannot be read (Permission denied)."
    }


def test_a_class_of_unreadable_files_only(tmp_path: Path) -> None:
    path = small(tmp_path / "set")
    (path / "test/zebra/a.png").write_bytes(b"not a picture")
    with pytest.raises(
        DataError, match=r"too few pictures in test/zebra \(0\), each wants at least one; unreadable: test/zebra/a.png"
    ):
        load(path, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*")), "nothing half done is left"


def test_a_size_of_choice(tmp_path: Path) -> None:
    path, cache = small(tmp_path / "set"), tmp_path / "cache"
    assert load_folder(path, cache, progress=False, size=40).train_images.shape == (4, 40, 40, 3)
    assert load_folder(path, cache, progress=False, size=96).train_images.shape == (4, 96, 96, 3)
    assert load_dataset(f"folder:{path}?size=48", cache, progress=False).test_images.shape == (2, 48, 48, 3)
    assert load_dataset(f"folder:{path}?size=48", cache, progress=False, size=50).test_images.shape == (2, 50, 50, 3)
    sizes = sorted(file.stem.split("-")[2] for file in cache.rglob("*.npz"))
    assert sizes == ["40", "48", "50"], "larger images are not kept on disk"
    for size in (7, 1025):
        with pytest.raises(DataError, match=f"must be from 8 to 1024 pixels, got {size}"):
            load_folder(path, cache, size=size)
    with pytest.raises(DataError, match="the images of cifar10 have their own size"):
        load_dataset("cifar10", cache, size=64)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="there is no folder .*nowhere"):
        load(tmp_path / "nowhere", cache)
    path = small(tmp_path / "set")
    shutil.move(path / "test", tmp_path / "kept")
    with pytest.raises(DataError, match=r"has train/ but no folder test/: pictures belong in .*test/<class>/"):
        load(path, cache)
    (path / "test").mkdir()
    with pytest.raises(DataError, match="classes of train/ that test/ lacks: ant, zebra"):
        load(path, cache)
    shutil.rmtree(path / "test")
    shutil.move(tmp_path / "kept", path / "test")
    shutil.rmtree(path / "train/ant")
    with pytest.raises(DataError, match="classes of test/ that train/ lacks: ant"):
        load(path, cache)
    (path / "train/ant").mkdir()
    with pytest.raises(DataError, match=r"train/ant holds no pictures: files end in \.avif, \.bmp"):
        load(path, cache)
    for split in ("train", "test"):
        shutil.rmtree(path / split)
        (path / split).mkdir()
    with pytest.raises(DataError, match="has no classes"):
        load(path, cache)


def test_progress_is_shown_in_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path / "set")
    monkeypatch.setattr(decoding, "DELAY", 0)
    load_folder(path, tmp_path / "log", progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load_folder(path, tmp_path / "cache", progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "reading set" in shown.err and "6/6" in shown.err
    load_folder(path, tmp_path / "other", progress=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(decoding, "DELAY", 60)
    load_folder(path, tmp_path / "quick", progress=True)
    assert capsys.readouterr().err == "", "no bar for what takes no time"
