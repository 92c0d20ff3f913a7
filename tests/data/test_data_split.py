"""A folder with one sub-folder a class: which pictures count, and which of them are for testing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condconv_mlx.data import DataError, Dataset, few, load_dataset, load_folder
from condconv_mlx.data.folder import choose_test


def picture(value: int) -> Image.Image:
    """One colour, which tells the picture."""
    return Image.new("RGB", (32, 32), (value % 256, value // 256, 7))


def fill(path: Path, counts: dict[str, int], start: int = 0) -> Path:
    number = start
    for label, count in counts.items():
        (path / label).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture(number).save(path / label / f"{index:03}.png")
            number += 1
    return path


def load(path: Path, seed: int = 0, share: float = 0.2) -> Dataset:
    return load_folder(path, path.parent / "cache", progress=False, seed=seed, test_share=share)


def colours(images: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in images[:, 0, 0].tolist()}


def test_a_fifth_of_each_class_is_for_testing(tmp_path: Path) -> None:
    found = load(fill(tmp_path / "birds", {"wren": 10, "robin": 25, "owl": 2, "kite": 3}))
    assert found.name == "birds" and found.labels == ["kite", "owl", "robin", "wren"]
    assert found.counts() == {"kite": (2, 1), "owl": (1, 1), "robin": (20, 5), "wren": (8, 2)}
    assert found.train_labels.tolist() == sorted(found.train_labels.tolist())
    assert len(colours(found.train_images)) == 31 and len(colours(found.test_images)) == 9
    assert not colours(found.train_images) & colours(found.test_images)
    assert found.train_images.flags.c_contiguous and not found.skipped
    assert found.summary() == (
        "birds: 4 classes (kite 3, owl 2, robin 25, wren 10), 31 training and 9 test images of 32×32 pixels in colour"
    )


def test_images_keep_their_labels(tmp_path: Path) -> None:
    path = fill(tmp_path / "set", {"a": 20, "b": 20})
    found = load(path)
    for images, labels in ((found.train_images, found.train_labels), (found.test_images, found.test_labels)):
        np.testing.assert_array_equal(images[:, 0, 0, 0] // 20, labels)


def test_the_share_of_choice(tmp_path: Path) -> None:
    path = fill(tmp_path / "set", {"a": 10, "b": 4})
    assert load(path, share=0.5).counts() == {"a": (5, 5), "b": (2, 2)}
    assert load(path, share=0.99).counts() == {"a": (1, 9), "b": (1, 3)}
    for share in (0, 1, -0.2):
        with pytest.raises(DataError, match="share of test images must be above 0 and below 1"):
            load(path, share=share)


def test_the_split_follows_from_the_seed(tmp_path: Path) -> None:
    path = fill(tmp_path / "set", {"a": 30, "b": 30})
    first, again, other = load(path), load(path), load(path, seed=1)
    np.testing.assert_array_equal(first.test_images, again.test_images)
    assert colours(first.test_images) != colours(other.test_images)
    assert first.counts() == other.counts()


def test_the_spec_tells_seed_share_and_size(tmp_path: Path) -> None:
    path = fill(tmp_path / "set", {"a": 30, "b": 30})
    wanted = load(path, seed=7, share=0.5)
    for spec in (f"folder:{path}?seed=7&test=0.5", f"folder:{path}?test=0.5?seed=7&size=32"):
        found = load_dataset(spec, tmp_path / "cache", progress=False)
        np.testing.assert_array_equal(found.test_images, wanted.test_images)
        assert found.source == wanted.source and found.name == "set"
    assert load_dataset(f"folder:{path}?seed=7&size=40", tmp_path, progress=False).train_images.shape[1:] == (40, 40, 3)
    fill(tmp_path / "what?", {"a": 30, "b": 30})
    assert load_dataset(f"folder:{tmp_path}/what?", tmp_path, progress=False).counts() == {"a": (24, 6), "b": (24, 6)}
    for options in ("seed=x", "test=", "size=1.5", "test=0.2&seed="):
        with pytest.raises(DataError, match="is no number: write folder:PATH"):
            load_dataset(f"folder:{path}?{options}", tmp_path)
    with pytest.raises(DataError, match="above 0 and below 1, got 2.0"):
        load_dataset(f"folder:{path}?test=2", tmp_path)
    with pytest.raises(DataError, match="from 8 to 1024 pixels, got 0"):
        load_dataset(f"folder:{path}?size=0", tmp_path)


def test_the_split_does_not_depend_on_order_or_place(tmp_path: Path) -> None:
    names = [f"a/{index}.png" for index in range(50)]
    assert choose_test(names) == choose_test(names[::-1]) == choose_test(sorted(names, key=hash))
    one = load(fill(tmp_path / "one/set", {"a": 20, "b": 20}))
    two = load(fill(tmp_path / "two/named otherwise", {"a": 20, "b": 20}))
    np.testing.assert_array_equal(one.test_images, two.test_images)


def test_the_chosen_names_stay_the_same_for_ever() -> None:
    # A change would mix test images into the training of runs that are gone on with.
    assert choose_test([f"a/{index}.png" for index in range(10)]) == {"a/1.png", "a/5.png"}


def test_the_split_is_not_the_same_in_each_class() -> None:
    chosen = [{name[2:] for name in choose_test([f"{label}/{index}.png" for index in range(40)])} for label in "ab"]
    assert chosen[0] != chosen[1]


def test_another_class_moves_nothing(tmp_path: Path) -> None:
    path = fill(tmp_path / "set", {"b": 20, "c": 20})
    before = load(path)
    fill(path, {"a": 20}, start=100)
    after = load(path)
    assert colours(before.test_images) < colours(after.test_images)
    assert colours(before.train_images) < colours(after.train_images)


@pytest.mark.parametrize("count", range(2, 40))
def test_one_more_picture_moves_at_most_one(count: int) -> None:
    names = [f"a/{index}.png" for index in range(count + 1)]
    before, after = choose_test(names[:-1]), choose_test(names)
    # At most the new one and one that was there come to the test images, and at most one leaves them.
    assert len(before - after) <= 1 and len(after - before) <= 1


def test_an_unreadable_file_is_not_chosen(tmp_path: Path) -> None:
    path = fill(tmp_path / "set", {"a": 5, "b": 5})
    for file in sorted((path / "a").iterdir())[:3]:
        file.write_bytes(b"broken")
    found = load(path)
    assert found.counts() == {"a": (1, 1), "b": (4, 1)} and len(found.skipped) == 3
    assert found.skipped["a/000.png"].startswith("a/000.png is not a picture")


def test_a_folder_around_it_all_is_looked_through(tmp_path: Path) -> None:
    fill(tmp_path / "set/birds", {"a": 5, "b": 5})
    (tmp_path / "set/notes.txt").write_text("x")
    (tmp_path / "set/.hidden").mkdir()
    assert load(tmp_path / "set").labels == ["a", "b"]
    fill(tmp_path / "deep/birds/train", {"a": 2, "b": 2})
    fill(tmp_path / "deep/birds/test", {"a": 1, "b": 1})
    assert load(tmp_path / "deep").counts() == {"a": (2, 1), "b": (2, 1)}


def test_what_lies_elsewhere_is_left_out(tmp_path: Path) -> None:
    path = fill(tmp_path / "set", {"a": 5, "b": 5})
    fill(path, {"a/older": 3, ".git": 3, "__MACOSX": 3, "b/.thumbnails": 2})
    picture(1).save(path / "cover.png")
    for name in ("Thumbs.db", "a/Thumbs.db", "b/.DS_Store", "b/._000.png", "a/notes.txt"):
        (path / name).write_bytes(b"x")
    assert {label: sum(both) for label, both in load(path).counts().items()} == {"a": 5, "b": 5}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load(fill(tmp_path / "set", {"train": 5, "bus": 5})).labels == ["bus", "train"]


def test_names_of_any_kind_of_accent_are_one(tmp_path: Path) -> None:
    composed = load(fill(tmp_path / "one", {"caf\u00e9": 5, "bar": 5}))
    apart = load(fill(tmp_path / "two", {"cafe\u0301": 5, "bar": 5}))
    assert composed.labels == apart.labels
    np.testing.assert_array_equal(colours(composed.test_images), colours(apart.test_images))


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({}, "has no classes: pictures belong in a folder for each class"),
        ({"a": 3}, "has only one class, a: a network needs two"),
        ({"a": 3, "b": 0}, r"set/b holds no pictures: files end in \.avif"),
        ({"a": 3, "b": 0, "b/deeper": 2}, "set/b holds no pictures: those in deeper folders do not count"),
        ({"a": 3, "b": 1}, r"too few pictures in b \(1\), each wants at least two, one to train on and one to test on"),
        ({f"c{number:02}": 1 for number in range(30)}, "c07 .1. and 22 more, each wants at least two"),
    ],
)
def test_too_little(counts: dict[str, int], says: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match=says) as caught:
        load(fill(tmp_path / "set", counts))
    assert "\n" not in str(caught.value)


def test_pictures_without_classes(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="has no classes"):
        load(tmp_path)


def test_long_lists_are_cut() -> None:
    assert few(["a", "b"]) == "a, b"
    assert few([str(number) for number in range(100)], 3) == "0, 1, 2 and 97 more"
