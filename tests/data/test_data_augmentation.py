"""Augmentation of whole batches against a loop over images that draws the same numbers."""

import hashlib
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx.data import normalise, policy
from condconv_mlx.data.augmentation import Augmentation, augment_batch

NOTHING = Augmentation(flip=False, shift=0)
ALL = Augmentation(shift=3, cutout=4, mixup=0.5, cutmix=1.0, jitter=0.4, hue=0.2, policy=2)
MEAN, STD = [0.1, 0.5, 0.7], [0.2, 0.3, 0.4]


def random_images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def augmented(
    images: np.ndarray,
    augmentation: Augmentation,
    seed: int = 1,
    labels: np.ndarray | None = None,
    part: slice | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    count, channels = len(images), images.shape[-1]
    labels = np.arange(count) % 10 if labels is None else labels
    chosen = images[augmentation.positions(count, part)]
    inputs, targets = augment_batch(
        mx.array(chosen),
        mx.array(labels.astype(np.int32)),
        10,
        augmentation,
        np.random.default_rng(seed),
        MEAN[:channels],
        STD[:channels],
        part,
    )
    return np.array(inputs), np.array(targets)


def one_by_one(images: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Flip, shift and cutout as images uint8."""
    count, height, width, channels = images.shape
    shift, side = augmentation.shift, augmentation.cutout
    down = rng.integers(-shift, shift + 1, (count, 1))[:, 0]
    right = rng.integers(-shift, shift + 1, (count, 1))[:, 0]
    flipped = rng.random(count) < 0.5 if augmentation.flip else np.zeros(count, bool)
    if side:
        row, column = (rng.integers(0, length, (count, 1))[:, 0] - side // 2 for length in (height, width))
    results = []
    for n, image in enumerate(images):
        padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), mode="reflect")
        moved = padded[shift + down[n] :, shift + right[n] :][:height, :width]
        moved = np.array(moved[:, ::-1] if flipped[n] else moved)
        if side:
            rows, columns = (slice(max(0, start), max(0, start + side)) for start in (row[n], column[n]))
            moved[rows, columns] = np.round(255 * np.array(MEAN[:channels]))
        results.append(moved)
    return np.stack(results)


@pytest.mark.parametrize("shape", [(40, 32, 32, 3), (40, 28, 28, 1), (7, 9, 5, 3), (1, 4, 6, 1)])
@pytest.mark.parametrize(
    "augmentation",
    [
        NOTHING,
        Augmentation(),
        Augmentation(flip=True, shift=0),
        Augmentation(flip=False, shift=3),
        Augmentation(flip=True, shift=3, cutout=4),
        Augmentation(flip=False, shift=0, cutout=3),
        Augmentation(flip=False, shift=1, cutout=30),
    ],
)
def test_flip_shift_and_cutout_to_the_bit(augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    images = random_images(shape)
    inputs, targets = augmented(images, augmentation)
    moved = one_by_one(images, augmentation, np.random.default_rng(1))
    np.testing.assert_array_equal(inputs, normalise(moved, MEAN[: shape[-1]], STD[: shape[-1]]))
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(targets, np.arange(shape[0]) % 10)


@pytest.mark.parametrize(
    ("augmentation", "digest"),
    [
        (Augmentation(flip=True, shift=2), "07469e2962f722c0"),
        (Augmentation(flip=True, shift=4, cutout=8), "96c21f48ea937948"),
    ],
)
def test_what_shipped_weights_were_trained_on_stays_the_same_for_ever(augmentation: Augmentation, digest: str) -> None:
    images = (np.arange(16 * 12 * 12 * 3) * 7919 % 251).astype(np.uint8).reshape(16, 12, 12, 3)
    inputs, _ = augmented(images, augmentation, seed=5)
    assert hashlib.sha256(inputs.tobytes()).hexdigest()[:16] == digest


def test_half_are_flipped_and_every_shift_comes() -> None:
    images = np.repeat(random_images((1, 12, 10, 3)), 600, axis=0)
    flipped, _ = augmented(images, Augmentation(shift=0))
    mirrored = (flipped == normalise(images[:, :, ::-1], MEAN, STD)).all(axis=(1, 2, 3))
    assert 240 < mirrored.sum() < 360
    moved, _ = augmented(images, Augmentation(shift=2))
    assert len({one.tobytes() for one in moved}) == 2 * 5 * 5


@pytest.mark.parametrize("augmentation", [ALL, replace(ALL, mixup=0.0), replace(ALL, mixup=0.0, cutmix=0.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_seed_gives_the_same_and_another_does_not(augmentation: Augmentation, channels: int) -> None:
    images = random_images((12, 9, 11, channels))
    first, again, other = (augmented(images, augmentation, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("more", [{"policy": 1}, {"jitter": 0.2}, {"hue": 0.2}])
def test_colours_are_drawn_after_flip_shift_and_cutout(more: dict[str, Any]) -> None:
    # The hidden squares are where they are without them.
    images = np.full((30, 12, 12, 1), 200, np.uint8)
    plain = Augmentation(shift=2, cutout=4)
    wanted, found = (augmented(images, kind)[0] < 0.5 for kind in (plain, replace(plain, magnitude=0.0, **more)))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("more", [{"mixup": 0.3}, {"cutmix": 1.0}, {"mixup": 0.3, "cutmix": 1.0}])
def test_what_is_mixed_are_the_images_of_flip_shift_and_cutout(more: dict[str, Any]) -> None:
    images = random_images((30, 12, 12, 3))
    plain = Augmentation(shift=2, cutout=4)
    first = augmented(images, plain)[0]
    second = np.roll(first, -1, axis=0)
    mixed = augmented(images, replace(plain, **more))[0]
    assert (mixed >= np.minimum(first, second) - 1e-5).all() and (mixed <= np.maximum(first, second) + 1e-5).all()
    assert (mixed != first).any(axis=(1, 2, 3)).sum() > 20


@pytest.mark.parametrize(
    "augmentation", [Augmentation(), ALL, replace(ALL, mixup=0.0), replace(ALL, cutmix=0.0), Augmentation(jitter=0.5)]
)
@pytest.mark.parametrize("processes", [1, 2, 3, 12])
def test_the_parts_are_the_whole(processes: int, augmentation: Augmentation) -> None:
    images = random_images((12, 8, 8, 3))
    whole = augmented(images, augmentation)
    size = 12 // processes
    parts = [augmented(images, augmentation, part=slice(start, start + size)) for start in range(0, 12, size)]
    for index in range(2):
        np.testing.assert_array_equal(np.concatenate([part[index] for part in parts]), whole[index])


def test_a_part_leaves_the_generator_as_the_whole_does() -> None:
    images = random_images((12, 8, 8, 3))
    left = []
    for part in (None, slice(0, 4), slice(8, 12)):
        rng = np.random.default_rng(3)
        chosen = mx.array(images[ALL.positions(12, part)])
        augment_batch(chosen, mx.zeros(12, mx.int32), 2, ALL, rng, MEAN, STD, part)
        left.append(rng.integers(2**31))
    assert len(set(left)) == 1


def test_the_images_that_a_part_wants() -> None:
    plain, mixing = Augmentation(), Augmentation(mixup=0.2)
    assert plain.positions(5).tolist() == mixing.positions(5).tolist() == [0, 1, 2, 3, 4]
    assert plain.positions(8, slice(4, 8)).tolist() == [4, 5, 6, 7]
    assert mixing.positions(8, slice(0, 4)).tolist() == [0, 1, 2, 3, 4]
    assert mixing.positions(8, slice(4, 8)).tolist() == [0, 4, 5, 6, 7]


def test_mixup_mixes_with_the_next_image() -> None:
    images = random_images((50, 6, 6, 3))
    labels = np.random.default_rng(2).integers(0, 10, 50)
    inputs, targets = augmented(images, replace(NOTHING, mixup=0.4), labels=labels)
    plain = normalise(images, MEAN, STD)
    assert targets.shape == (50, 10) and targets.dtype == np.float32
    for n in range(50):
        after = (n + 1) % 50
        # The share is what fits the first pixel, and then must fit all, and the target.
        share = np.dot((inputs[n] - plain[after]).ravel(), (plain[n] - plain[after]).ravel())
        share /= np.square(plain[n] - plain[after]).sum()
        np.testing.assert_allclose(inputs[n], share * plain[n] + (1 - share) * plain[after], atol=1e-5)
        wanted = np.zeros(10)
        wanted[labels[n]] += share
        wanted[labels[after]] += 1 - share
        np.testing.assert_allclose(targets[n], wanted, atol=1e-5)


def test_the_shares_of_mixup_are_of_the_beta_distribution() -> None:
    labels = np.arange(4000) % 10
    _, targets = augmented(np.zeros((4000, 2, 2, 1), np.uint8), replace(NOTHING, mixup=0.5), labels=labels)
    share = targets[np.arange(4000), labels]
    assert abs(share.mean() - 0.5) < 0.02
    # The variance of Beta(a, a) is 1 / (4 (2a + 1)).
    assert abs(share.var() - 1 / 8) < 0.01


def test_cutmix_takes_a_box_from_the_next_image() -> None:
    count = 60
    values = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (count, 12, 10, 1)).copy()
    labels = np.arange(count) % 10
    inputs, targets = augmented(images, replace(NOTHING, cutmix=1.0), labels=labels)
    plain = normalise(images, MEAN[:1], STD[:1])
    boxes = set()
    for n in range(count):
        after = (n + 1) % count
        taken = (inputs[n] == plain[after])[..., 0]
        assert (taken | (inputs[n] == plain[n])[..., 0]).all()
        rows, columns = taken.any(axis=1), taken.any(axis=0)
        assert taken.sum() == rows.sum() * columns.sum()
        assert (np.diff(np.flatnonzero(rows)) == 1).all() and (np.diff(np.flatnonzero(columns)) == 1).all()
        boxes.add((int(rows.sum()), int(columns.sum())))
        wanted = np.zeros(10)
        wanted[labels[n]] += 1 - taken.mean()
        wanted[labels[after]] += taken.mean()
        np.testing.assert_allclose(targets[n], wanted, atol=1e-6)
    assert len(boxes) > 20


def test_with_both_each_image_gets_mixup_or_cutmix() -> None:
    count = 200
    images = np.broadcast_to(
        (np.arange(count) % 2 * 200).astype(np.uint8)[:, None, None, None], (count, 8, 8, 1)
    ).copy()
    inputs, targets = augmented(images, replace(NOTHING, mixup=1.0, cutmix=1.0))
    flat = inputs.reshape(count, -1)
    blended = (np.ptp(flat, axis=1) == 0) & (flat[:, 0] > inputs.min()) & (flat[:, 0] < inputs.max())
    boxed = np.isin(flat, [inputs.min(), inputs.max()]).all(axis=1)
    assert (blended ^ boxed).all() and 60 < blended.sum() < 140
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert (targets >= 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_brightness_then_contrast_then_saturation(channels: int) -> None:
    images = random_images((20, 7, 6, channels))
    inputs, _ = augmented(images, replace(NOTHING, jitter=0.5))
    rng = np.random.default_rng(1)
    for _ in "row", "column":
        rng.integers(0, 1, (20, 1))
    factors = rng.uniform(0.5, 1.5, (20, 3))
    luminance = [0.299, 0.587, 0.114] if channels == 3 else [1.0]
    for n, image in enumerate(images):
        adjusted = np.clip(image * factors[n, 0], 0, 255)
        grey = (adjusted @ luminance).mean()
        adjusted = np.clip(grey + factors[n, 1] * (adjusted - grey), 0, 255)
        grey = (adjusted @ luminance)[..., None]
        adjusted = np.clip(grey + factors[n, 2] * (adjusted - grey), 0, 255)
        found = (inputs[n] * STD[:channels] + MEAN[:channels]) * 255
        # Rounded down three times, and each time enlarged by up to a half.
        assert np.abs(found - adjusted).max() < 6
        assert np.abs(found - adjusted).mean() < 2.5


def test_hues_are_moved_last_and_each_by_its_own_turn() -> None:
    images = random_images((20, 7, 6, 3))
    inputs, _ = augmented(images, replace(NOTHING, hue=0.3))
    rng = np.random.default_rng(1)
    for _ in "row", "column":
        rng.integers(0, 1, (20, 1))
    turns = rng.uniform(-0.3, 0.3, 20)
    assert len(set(turns)) == 20
    moved = np.array(policy.hue(mx.array(images), mx.array(turns.astype(np.float32))))
    np.testing.assert_array_equal(inputs, normalise(moved, MEAN, STD))


def test_what_else_is_drawn_does_not_hang_on_hue() -> None:
    # So small a turn moves no pixel, and yet is drawn.
    images, without = random_images((30, 9, 9, 3)), replace(ALL, mixup=0.0, cutmix=0.0, hue=0.0)
    plain, still = (augmented(images, kind)[0] for kind in (without, replace(without, hue=1e-9)))
    np.testing.assert_array_equal(plain, still)


def test_policy_changes_most_images_and_none_at_random_places() -> None:
    images = random_images((100, 10, 10, 3))
    once, _ = augmented(images, replace(NOTHING, policy=1, magnitude=15))
    same = (once == normalise(images, MEAN, STD)).all(axis=(1, 2, 3))
    # The identity is one of 14; autocontrast does nothing with noise of this range.
    assert 2 < same.sum() < 35


def test_an_empty_batch_passes() -> None:
    for augmentation in (Augmentation(), ALL):
        inputs, targets = augmented(np.zeros((0, 8, 8, 3), np.uint8), augmentation)
        assert inputs.shape == (0, 8, 8, 3) and len(targets) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shift": -1}, "shift must be finite and at least 0, got -1"),
        ({"mixup": float("nan")}, "mixup must be finite and at least 0, got nan"),
        ({"cutmix": float("inf")}, "cutmix must be finite and at least 0, got inf"),
        ({"policy": -2}, "policy must be finite and at least 0"),
        ({"jitter": 1.5}, "jitter must be from 0 to 1, got 1.5"),
        ({"hue": 0.6}, "hue must be from 0 to 0.5, got 0.6"),
        ({"magnitude": 31}, "magnitude must be from 0 to 30, got 31"),
    ],
)
def test_settings_out_of_range_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Augmentation(**options)


def test_arrays_that_do_not_fit_are_named() -> None:
    images, labels, rng = mx.zeros((4, 8, 6, 3), mx.uint8), mx.zeros(4, mx.int32), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"from 0 to 5 for 8×6 images, got 6"):
        augment_batch(images, labels, 2, Augmentation(shift=6), rng, MEAN, STD)
    with pytest.raises(ValueError, match=r"uint8 of shape \(N, H, W, C\), got mlx.core.float32"):
        augment_batch(images.astype(mx.float32), labels, 2, NOTHING, rng, MEAN, STD)
    with pytest.raises(ValueError, match="3 images of the batch of 4 are wanted, got 4"):
        augment_batch(images, labels, 2, Augmentation(mixup=1), rng, MEAN, STD, slice(0, 2))
    with pytest.raises(ValueError, match="1 and 3 values, but the images have 3 channels"):
        augment_batch(images, labels, 2, NOTHING, rng, [0.5], STD)
