"""Scaling, statistics and augmentation against plain loops."""

import numpy as np
import pytest

from condconv_mlx.data import augment, normalise, statistics


def random_images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_is_the_formula(channels: int) -> None:
    images = random_images((5, 7, 6, channels))
    mean, std = [0.1, 0.5, 0.7][:channels], [0.2, 0.3, 0.4][:channels]
    wanted = (images.astype(np.float64) / 255 - mean) / std
    found = normalise(images, mean, std)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_normalise_with_own_statistics_gives_mean_0_and_deviation_1() -> None:
    images = random_images((40, 8, 8, 3))
    scaled = normalise(images, *statistics(images))
    np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=(0, 1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2048, 2500])
def test_statistics_agree_with_numpy(count: int) -> None:
    images = random_images((count, 3, 2, 3))
    mean, std = statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-9)
    assert all(type(value) is float for value in mean + std)


def test_constant_channel_can_be_normalised() -> None:
    images = np.full((4, 5, 5, 1), 77, dtype=np.uint8)
    mean, std = statistics(images)
    assert std == [1 / 255]
    np.testing.assert_allclose(normalise(images, mean, std), 0, atol=1e-4)


def plainly_augmented(image: np.ndarray, down: int, right: int, flipped: bool) -> np.ndarray:
    pad = 8
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    height, width, _ = image.shape
    moved = padded[pad + down : pad + down + height, pad + right : pad + right + width]
    return moved[:, ::-1] if flipped else moved


def test_augment_gives_shifts_and_flips_of_the_image() -> None:
    image = random_images((1, 12, 10, 3))
    batch = np.repeat(image, 400, axis=0)
    found = augment(batch, np.random.default_rng(1), shift=2)
    wanted = {
        plainly_augmented(image[0], down, right, flipped).tobytes()
        for down in range(-2, 3)
        for right in range(-2, 3)
        for flipped in (False, True)
    }
    assert {one.tobytes() for one in found} == wanted


def test_augment_without_shift_and_flip_changes_nothing() -> None:
    images = random_images((6, 5, 9, 1))
    found = augment(images, np.random.default_rng(0), shift=0, flip=False)
    np.testing.assert_array_equal(found, images)
    assert found is not images and not np.shares_memory(found, images)


def test_augment_flips_about_half() -> None:
    images = np.repeat(random_images((1, 8, 8, 1)), 1000, axis=0)
    flipped = (augment(images, np.random.default_rng(3), shift=0) == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 400 < flipped.sum() < 600


def test_cutout_hides_a_square_that_may_stick_out() -> None:
    images = np.full((200, 9, 7, 3), 255, np.uint8)
    found = augment(images, np.random.default_rng(0), shift=0, flip=False, cutout=4, fill=(0.2, 0.4, 0.6))
    hidden = (found == np.array([51, 102, 153])).all(axis=3)
    assert (hidden | (found == 255).all(axis=3)).all()
    heights, widths = hidden.any(axis=2).sum(axis=1), hidden.any(axis=1).sum(axis=1)
    assert (hidden.sum(axis=(1, 2)) == heights * widths).all()
    assert set(heights) == set(widths) == {2, 3, 4}
    assert hidden.any(axis=0).all()


def test_cutout_leaves_shifts_and_flips_as_they_were() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    plain, cut = (augment(images, np.random.default_rng(1), shift=2, cutout=side, fill=(0.5,)) for side in (0, 3))
    changed = (plain != cut).sum(axis=(1, 2, 3))
    assert (changed > 0).all() and (changed <= 9).all()


def test_augment_is_repeatable_and_leaves_its_input() -> None:
    images = random_images((9, 8, 8, 3))
    before = images.copy()
    first = augment(images, np.random.default_rng(5))
    np.testing.assert_array_equal(first, augment(images, np.random.default_rng(5)))
    np.testing.assert_array_equal(images, before)
    assert first.dtype == np.uint8


def test_an_empty_batch_passes() -> None:
    empty = np.zeros((0, 8, 8, 3), dtype=np.uint8)
    assert augment(empty, np.random.default_rng(0)).shape == empty.shape
    assert normalise(empty, [0] * 3, [1] * 3).shape == empty.shape


def test_bad_arguments_are_named() -> None:
    images = random_images((2, 8, 6, 3))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"from 0 to 5 .* got 6"):
        augment(images, rng, shift=6)
    with pytest.raises(ValueError, match="got -1"):
        augment(images, rng, shift=-1)
    with pytest.raises(ValueError, match="uint8 .* got float32"):
        augment(images.astype(np.float32), rng)
    with pytest.raises(ValueError, match=r"got uint8 of shape \(8, 6, 3\)"):
        normalise(images[0], [0] * 3, [1] * 3)
    with pytest.raises(ValueError, match="1 and 3 values, but the images have 3 channels"):
        normalise(images, [0.5], [1] * 3)
    with pytest.raises(ValueError, match="positive"):
        normalise(images, [0.5] * 3, [1, 0, 1])
    with pytest.raises(ValueError, match="no pixels"):
        statistics(images[:0])
