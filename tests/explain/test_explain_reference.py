"""What routing weights usually are, and the file that says so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condconv_mlx.explain import Reference, load_reference, reference, save_reference

TABLE = np.random.default_rng(0).random((7, 3)).astype(np.float32)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"weights")
    return path


def test_mean_and_deviation_of_each_expert() -> None:
    got = reference({"a": TABLE, "b": TABLE[:, :2]}, "test images")
    assert (got.images, got.of) == (7, "test images")
    for expert in range(3):
        values = [float(row[expert]) for row in TABLE]
        mean = sum(values) / 7
        assert got.mean["a"][expert] == pytest.approx(mean)
        assert got.deviation["a"][expert] == pytest.approx((sum((v - mean) ** 2 for v in values) / 7) ** 0.5)
    assert got.mean["b"].shape == (2,)


@pytest.mark.parametrize("tables", [{}, {"a": TABLE[:0]}, {"a": TABLE, "b": TABLE[:3]}])
def test_the_same_images_for_each_router(tables: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"\[reference\]"):
        reference(tables, "images")


def test_it_comes_back_from_its_file(weights: Path) -> None:
    wanted = reference({"a": TABLE}, "test images")
    path = save_reference(weights, wanted)
    assert path.name == "net.routing.json" and path.parent == weights.parent
    got = load_reference(weights)
    assert isinstance(got, Reference) and (got.images, got.of) == (7, "test images")
    np.testing.assert_allclose(got.mean["a"], wanted.mean["a"], atol=1e-5)
    np.testing.assert_allclose(got.deviation["a"], wanted.deviation["a"], atol=1e-5)


def test_it_counts_for_no_other_weights(weights: Path) -> None:
    assert load_reference(weights) is None
    path = save_reference(weights, reference({"a": TABLE}, "test images"))
    weights.write_bytes(b"weights trained again")
    assert load_reference(weights) is None
    weights.write_bytes(b"weights")
    for damaged in ("", "[]", json.dumps(json.loads(path.read_text()) | {"routers": {"a": 1}})):
        path.write_text(damaged)
        assert load_reference(weights) is None


def test_the_command_measures_the_test_images(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture) -> None:
    import mlx.core as mx

    from condconv_mlx import create_model, load_model, save_model
    from condconv_mlx.data import load_dataset, normalise
    from condconv_mlx.explain import trace
    from condconv_mlx.routing_reference import main

    mx.random.seed(0)
    model: Any = create_model("condconv_small", num_classes=2, num_experts=3, width=4)
    model.info["input"] = {"size": 28, "channels": 3, "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}
    path = tmp_path / "net.safetensors"
    save_model(model, path)
    main([str(path), "--data", f"folder:{pictures}", "--of", "pictures of noise"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "net.routing.json")
    got = load_reference(path)
    assert got is not None and (got.images, got.of) == (20, "pictures of noise")
    images = load_dataset(f"folder:{pictures}").test_images
    for router in trace(load_model(path), normalise(images, [0.4] * 3, [0.2] * 3)).routers:
        np.testing.assert_allclose(got.mean[router.name], router.weights.mean(axis=0), atol=2e-5)
