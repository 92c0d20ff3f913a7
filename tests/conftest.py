"""Before any test imports MLX: the process as our commands set it up, and a cache folder of its own."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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
