"""Untrained weights in a folder of their own, so that the app's tests do not depend on the shipped ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from app_material import FASHION, save_untrained


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one network of each kind that is shipped."""
    folder = tmp_path_factory.mktemp("weights")
    save_untrained(folder, "condconv_small_cifar10")
    save_untrained(folder, "condconv_small_fashion_mnist", "fashion_mnist", FASHION, 28, 1)
    save_untrained(folder, "condconv_small_static_cifar10", experts=None)
    return folder


@pytest.fixture
def weights(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That folder, in the place of the shipped one."""
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(untrained))
    yield untrained


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty place for the user's pictures, and no training runs."""
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONDCONV_MLX_RUNS", str(tmp_path / "runs"))
    yield tmp_path / "cache" / "app"
