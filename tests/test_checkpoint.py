"""Saved models: the same after loading, a clear error when damaged, and nothing lost."""

import json

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from condconv_mlx import create_model, list_weights, load_model, save_model
from condconv_mlx.checkpoint import CheckpointError, write_arrays


@pytest.fixture
def model():
    made = create_model("condconv_small", width=8, num_experts=3)
    made.info.update(dataset="cifar10", labels=["a", "b"])
    return made


def test_round_trip(model, tmp_path):
    save_model(model, tmp_path / "m.safetensors", dtype=mx.float32)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.config == model.config and loaded.info == model.info and not loaded.training
    for (name, a), (_, b) in zip(tree_flatten(model.parameters()), tree_flatten(loaded.parameters()), strict=True):
        assert np.array_equal(np.array(a), np.array(b)), name


def test_half_precision_on_disk_is_close_and_saves_again_alike(model, tmp_path):
    save_model(model, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    x = mx.random.normal((2, 32, 32, 3))
    assert np.allclose(np.array(model.eval()(x)), np.array(loaded(x)), atol=0.02)
    save_model(loaded, tmp_path / "b.safetensors")
    a, b = mx.load(str(tmp_path / "a.safetensors")), mx.load(str(tmp_path / "b.safetensors"))
    assert all(np.array_equal(np.array(a[name]), np.array(b[name])) for name in a)


def test_a_failed_save_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    before = path.read_bytes()

    def fail(name, *_):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(mx, "save_safetensors", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(model, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
def test_truncated_files(model, tmp_path, keep):
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match="damaged|cut short"):
        load_model(path)


def test_other_files(model, tmp_path):
    with pytest.raises(CheckpointError, match="no file"):
        load_model(tmp_path / "missing.safetensors")
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"\x89PNG not weights at all, whatever the name says")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_model(path)
    write_arrays(path, {"a": mx.zeros(3)}, {})
    with pytest.raises(CheckpointError, match="not a condconv-mlx model"):
        load_model(path)
    write_arrays(path, {"a": mx.zeros(3)}, {"condconv_mlx": "{"})
    with pytest.raises(CheckpointError, match="cannot build"):
        load_model(path)
    write_arrays(path, {"a": mx.zeros(3)}, {"condconv_mlx": json.dumps({"config": model.config, "info": {}})})
    with pytest.raises(CheckpointError, match="lacks"):
        load_model(path)


def test_arrays_of_another_shape(model, tmp_path):
    path = tmp_path / "m.safetensors"
    object.__setattr__(model, "config", model.config | {"width": 16})
    save_model(model, path)
    with pytest.raises(CheckpointError, match=r"has shape .* the network wants"):
        load_model(path)


def test_extra_arrays(model, tmp_path):
    path = tmp_path / "m.safetensors"
    object.__setattr__(model, "config", model.config | {"num_experts": None})
    save_model(model, path)
    with pytest.raises(CheckpointError, match="the network lacks"):
        load_model(path)


def test_names_of_shipped_weights(model, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    assert list_weights() == []
    save_model(model, tmp_path / "mine.safetensors")
    assert list_weights() == ["mine"]
    assert load_model("mine").config == model.config


def test_only_our_models_are_saved_and_by_the_right_name(model, tmp_path):
    import mlx.nn as nn

    with pytest.raises(ValueError, match="create_model"):
        save_model(nn.Linear(2, 2), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"\.safetensors"):
        save_model(model, tmp_path / "m.pkl")
