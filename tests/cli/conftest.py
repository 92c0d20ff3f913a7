"""Small models with random weights, and pictures, as files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import condconv_mlx

LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def save(path: Path, channels: int = 3, num_experts: int | None = 4) -> Path:
    model = condconv_mlx.create_model("condconv_small", num_experts=num_experts, in_channels=channels, width=4)
    size, dataset = (32, "cifar10") if channels == 3 else (28, "fashion_mnist")
    model.info.update(
        dataset=dataset,
        labels=LABELS,
        input={"size": size, "channels": channels, "mean": [0.5] * channels, "std": [0.25] * channels},
        training={"test_accuracy": 0.9123},
    )
    condconv_mlx.save_model(model, path)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A folder of weights: colour, static and grey."""
    folder = tmp_path_factory.mktemp("weights")
    save(folder / "colour.safetensors")
    save(folder / "static.safetensors", num_experts=None)
    save(folder / "grey.safetensors", channels=1)
    return folder


@pytest.fixture
def picture(tmp_path) -> Path:
    """A photograph's worth of noise, wider than high."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(pixels).save(path)
    return path
