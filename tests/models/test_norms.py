"""Group and layer normalisation in place of batch normalisation."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from condconv_mlx import create_model, list_models, load_model, save_model
from condconv_mlx.models.norms import replace_norms


def test_a_group_is_an_example_s_own():
    mx.random.seed(0)
    model = nn.Sequential(nn.BatchNorm(48), nn.BatchNorm(28), nn.BatchNorm(7))
    replace_norms(model, "group")
    groups = [layer.num_groups for layer in model.layers]
    assert groups == [3, 2, 1]
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 48)).astype(np.float32)
    parts = x.reshape(2, 25, 3, 16)
    mean, variance = (f(parts, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    wanted = ((parts - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    assert np.allclose(np.array(model.layers[0](mx.array(x))), wanted, atol=1e-4)
    replace_norms(model := nn.Sequential(nn.BatchNorm(48)), "layer")
    assert model.layers[0].num_groups == 1


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("name", list_models())
def test_every_network_takes_it(name, norm):
    model = create_model(name, num_classes=3, num_experts=2, norm=norm)
    kinds = {type(module) for module in model.modules()}
    assert not any(issubclass(kind, nn.BatchNorm) for kind in kinds) and nn.GroupNorm in kinds
    assert model.config["norm"] == norm


def test_an_image_is_classified_alike_alone_and_in_company(tmp_path):
    mx.random.seed(0)
    model = create_model("condconv_small", num_experts=2, width=8, norm="group").train()
    x = mx.random.normal((4, 32, 32, 3))
    together = model(x)
    alone = mx.concatenate([model(x[i : i + 1]) for i in range(4)])
    assert mx.allclose(together, alone, atol=1e-5)
    save_model(model, tmp_path / "a.safetensors", dtype=mx.float32)
    again = load_model(tmp_path / "a.safetensors")
    assert mx.allclose(again(x), model.eval()(x), atol=1e-5)


def test_batch_normalisation_is_the_default_and_not_told():
    assert "norm" not in create_model("condconv_small", norm="batch").config
    with pytest.raises(ValueError, match="norm must be one of"):
        create_model("condconv_small", norm="instance")
