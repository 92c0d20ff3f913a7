"""Before any test imports MLX: the process as our commands set it up, and a cache folder of its own."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condconv_mlx.cpu import tune_process

tune_process()
# A GPU may multiply float32 in TF32, with 10 bits of each factor. The references have them all.
os.environ["MLX_ENABLE_TF32"] = "0"
# What the user measured or downloaded must not decide what the tests see.
_folder = tempfile.TemporaryDirectory(prefix="condconv-mlx-tests-")
os.environ["CONDCONV_MLX_CACHE"] = _folder.name


@pytest.fixture
def tuning_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where measurements are kept; nothing is there yet."""
    from condconv_mlx.functional import tuned

    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path / "measured"))
    tuned.strategies.cache_clear()
    yield tmp_path / "measured" / "tuning.json"
    tuned.strategies.cache_clear()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes of 28×28 colour pictures: reddish and bluish noise. Not to be written to."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split, count in (("train", 32), ("test", 10)):
        for name, channel in (("blue", 2), ("red", 0)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (28, 28, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder
