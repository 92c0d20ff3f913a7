"""Batches on the device, from memory and decoded: the same."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx.data import Dataset, folder, load_folder, normalise
from condconv_mlx.data.batches import Resident, Streamed, normalised, source
from condconv_mlx.models import create_model
from condconv_mlx.training import evaluate


@pytest.fixture(params=["resident", "streamed"])
def birds(request: pytest.FixtureRequest, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    if request.param == "streamed":
        monkeypatch.setattr(folder, "IN_MEMORY", 1000)
    return load_folder(pictures, tmp_path, progress=False)


def test_take_and_prefetch(birds: Dataset, request: pytest.FixtureRequest) -> None:
    found = source(birds.train_images)
    assert isinstance(found, Streamed if "streamed" in request.node.name else Resident)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 64, 9) for _ in range(6)]
    wanted = [birds.train_images[batch] for batch in batches]
    taken = [found.take(batch) for batch in batches]
    ahead = list(found.prefetch(iter(batches)))
    for each in (taken, ahead):
        assert all(isinstance(one, mx.array) and one.dtype == mx.uint8 for one in each)
        np.testing.assert_array_equal(np.stack([np.array(one) for one in each]), wanted)
    assert found.take(np.arange(0)).shape == (0, 28, 28, 3)
    assert list(found.prefetch([])) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_to_the_bit(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 7, 5, channels), dtype=np.uint8)
    mean, std = [0.1, 0.45, 0.73][:channels], [0.21, 0.3, 0.41][:channels]
    np.testing.assert_array_equal(np.array(normalised(mx.array(images), mean, std)), normalise(images, mean, std))


def test_a_model_is_evaluated_on_either(birds: Dataset) -> None:
    mx.random.seed(0)
    model = create_model("condconv_small", num_classes=2, num_experts=2, in_channels=3)
    model.eval()
    mean, std = [0.4, 0.4, 0.5], [0.2, 0.2, 0.3]
    seen: list[int] = []
    found = evaluate(
        model, birds.test_images, birds.test_labels, {"mean": mean, "std": std}, batch_size=8, on_batch=seen.append
    )
    guesses = np.array(model(mx.array(normalise(birds.test_images[:], mean, std)))).argmax(axis=1)
    assert seen == [8, 8, 4]
    assert (found.count, found.correct) == (20, (guesses == birds.test_labels).sum())
    assert found.confusion.sum(axis=1).tolist() == [10, 10]
