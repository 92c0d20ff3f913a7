"""Scaling and statistics against plain loops."""

import numpy as np
import pytest

from condconv_mlx.data import normalise, statistics


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


def test_an_empty_batch_passes() -> None:
    empty = np.zeros((0, 8, 8, 3), dtype=np.uint8)
    assert normalise(empty, [0] * 3, [1] * 3).shape == empty.shape


def test_bad_arguments_are_named() -> None:
    images = random_images((2, 8, 6, 3))
    with pytest.raises(ValueError, match="uint8 .* got float32"):
        normalise(images.astype(np.float32), [0] * 3, [1] * 3)
    with pytest.raises(ValueError, match=r"got uint8 of shape \(8, 6, 3\)"):
        normalise(images[0], [0] * 3, [1] * 3)
    with pytest.raises(ValueError, match="1 and 3 values, but the images have 3 channels"):
        normalise(images, [0.5], [1] * 3)
    with pytest.raises(ValueError, match="positive"):
        normalise(images, [0.5] * 3, [1, 0, 1])
    with pytest.raises(ValueError, match="no pixels"):
        statistics(images[:0])
