"""Whitening filters: uncorrelated, of unit variance, each with its negative."""

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx.data import Dataset
from condconv_mlx.models import create_model
from condconv_mlx.static_layers import Conv2d
from condconv_mlx.training import TrainingSettings, train
from condconv_mlx.training.whitening import whiten


def images(channels):
    """Smooth random images, so that pixels side by side are alike."""
    noise = np.random.default_rng(0).standard_normal((64, 18, 18, channels))
    smooth = sum(noise[:, i : i + 16, j : j + 16] for i in range(3) for j in range(3)) / 3
    return (smooth + 0.3 * smooth[..., :1]).astype(np.float32)


def test_responses_are_uncorrelated_with_unit_variance():
    stem = Conv2d(3, 12, 3, padding=0, bias=False)
    whiten(stem, images(3))
    responses = np.array(stem(mx.array(images(3)))).reshape(-1, 12)
    assert np.allclose(responses[:, 6:], -responses[:, :6], atol=1e-5)
    assert np.allclose(responses.T[:6] @ responses[:, :6] / len(responses), np.eye(6), atol=0.05)


def test_filters_come_from_the_largest_variance_on():
    stem = Conv2d(1, 4, 3, bias=False)
    whiten(stem, images(1))
    largest = np.array(stem.weight)[0].ravel()
    windows = np.lib.stride_tricks.sliding_window_view(images(1)[..., 0], (3, 3), axis=(1, 2)).reshape(-1, 9)
    variance = (windows @ (largest / np.linalg.norm(largest))).var()
    assert variance == pytest.approx(np.linalg.eigvalsh(windows.T @ windows / len(windows))[-1], rel=0.02)


def test_kernels_beyond_twice_the_pixels_of_a_patch_stay():
    stem = Conv2d(1, 24, 3, bias=False)
    before = np.array(stem.weight)
    whiten(stem, images(1))
    after = np.array(stem.weight)
    assert (after[18:] == before[18:]).all() and (after[:18] != before[:18]).any(axis=(1, 2, 3)).all()


def test_images_that_do_not_fit():
    with pytest.raises(ValueError, match="must be \\(N, H, W, 3\\), got shape \\(64, 16, 16, 1\\)"):
        whiten(Conv2d(3, 8, 3), images(1))


@pytest.mark.parametrize("wanted", [True, False])
def test_training_begins_with_them_unless_told_not_to(tmp_path, wanted):
    pictures = np.random.default_rng(0).integers(0, 256, (32, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(32, dtype=np.int32) % 2
    dataset = Dataset("noise", ["a", "b"], pictures, labels, pictures[:4], labels[:4], "made here")
    model = create_model("condconv_small", num_classes=2, num_experts=None, in_channels=1, width=4)
    before = np.array(model.stem.weight)
    settings = TrainingSettings(epochs=1, batch_size=16, holdout=0, learning_rate=1e-9, shift=0, whiten=wanted)
    train(model, dataset, tmp_path, settings)
    assert np.allclose(np.array(model.stem.weight), before, atol=1e-4) != wanted
