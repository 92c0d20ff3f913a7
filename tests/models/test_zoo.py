"""The paper's networks: the figures of its table, timm's parameter counts, and where CondConv is."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from condconv_mlx import CondConv2d, CondLinear, create_model, list_models, load_model, save_model
from condconv_mlx.complexity import count
from condconv_mlx.explain import trace

# Paper, table 1: multiply-adds in millions, static and with 8 experts. EfficientNet's count more than products.
PAPER = {
    "mobilenet_v1": (567, 600, 0.01),
    "mobilenet_v2": (301, 329, 0.01),
    "mnasnet_a1": (312, 325, 0.01),
    "resnet50": (4093, 4213, 0.01),
    "efficientnet_b0": (391, 413, 0.02),
}
# timm 1.0: mobilenetv1_100, mobilenetv2_100, semnasnet_100, resnet50, efficientnet_b0 and _b1.
STATIC_PARAMETERS = {
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "mnasnet_a1": 3_887_038,
    "resnet50": 25_557_032,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
}
# timm's tf_efficientnet_cc_*, and for MobileNetV2 the 27.5 M of the paper's code, from DESIGN's placement.
CONDITIONAL_PARAMETERS = {
    ("efficientnet_b0", 4): 13_314_116,
    ("efficientnet_b0", 8): 24_013_284,
    ("efficientnet_b1", 8): 39_715_968,
    ("mobilenet_v2", 8): 27_457_768,
}
INVERTED = ("expand", "depthwise", "project")
# By network: the layers that each router feeds.
ROUTED = {
    "mobilenet_v1": {
        **{f"blocks.{i}": ("depthwise", "project") for i in range(5, 13)},
        "classifier": ("",),
    },
    "mobilenet_v2": {**{f"blocks.{i}": INVERTED for i in range(6, 17)}, "": ("head",), "classifier": ("",)},
    "mnasnet_a1": {f"blocks.{i}": INVERTED for i in range(10, 16)},
    "resnet50": {
        "blocks.13": ("conv1", "conv2", "conv3", "shortcut"),
        "blocks.14": ("conv1", "conv2", "conv3"),
        "blocks.15": ("conv1", "conv2", "conv3"),
    },
    "efficientnet_b0": {f"blocks.{i}": INVERTED for i in range(8, 16)},
    "efficientnet_b1": {f"blocks.{i}": INVERTED for i in range(12, 23)},
}


@pytest.mark.parametrize("name", PAPER)
def test_multiply_adds_of_the_paper(name):
    static, conditional, tolerance = PAPER[name]
    for experts, wanted in ((None, static), (8, conditional)):
        found = count(create_model(name, num_classes=1000, num_experts=experts), (224, 224, 3)).madds / 1e6
        assert abs(found - wanted) <= tolerance * wanted


@pytest.mark.parametrize("name", STATIC_PARAMETERS)
def test_static_parameters(name):
    model = create_model(name, num_classes=1000, num_experts=None)
    assert count(model, (224, 224, 3)).params == STATIC_PARAMETERS[name]
    assert not [module for module in model.modules() if isinstance(module, (CondConv2d, CondLinear))]


@pytest.mark.parametrize("name, experts", CONDITIONAL_PARAMETERS)
def test_parameters_with_experts(name, experts):
    model = create_model(name, num_classes=1000, num_experts=experts)
    assert count(model, (224, 224, 3)).params == CONDITIONAL_PARAMETERS[name, experts]


@pytest.mark.parametrize("name", ROUTED)
def test_placement(name):
    """Which layers are conditional, and that the layers of a block share the router on the block's input."""
    model = create_model(name, num_experts=2)
    wanted = {
        _join(place, "router"): [_join(place, layer) for layer in layers] for place, layers in ROUTED[name].items()
    }
    found = {router.name: router.layers for router in trace(model, mx.zeros((1, 32, 32, 3))).routers}
    assert found == wanted
    conditional = [n for n, module in model.named_modules() if isinstance(module, (CondConv2d, CondLinear))]
    assert sorted(conditional) == sorted(layer for layers in wanted.values() for layer in layers)
    for place, layers in ROUTED[name].items():
        first = dict(model.named_modules())[_join(place, layers[0])].weight
        channels = first.shape[-1] if layers[0] != "depthwise" else first.shape[1]
        assert model_at(model, _join(place, "router")).linear.weight.shape[1] == channels


@pytest.mark.parametrize("name", [*PAPER, "efficientnet_b1"])
@pytest.mark.parametrize("experts", [None, 2])
def test_small_images_train_save_and_load(name, experts, tmp_path):
    mx.random.seed(0)
    model = create_model(name, num_classes=5, num_experts=experts, in_channels=1, small_images=True)
    x = mx.random.normal((4, 32, 32, 1))
    # The stem keeps the size: with a stride of 2 the deepest maps of 32-pixel images are single pixels.
    assert model.stem(x).shape[1:3] == (32, 32)

    def loss(x):
        return nn.losses.cross_entropy(model(x), mx.array([0, 1, 2, 3]), reduction="mean")

    value, gradients = nn.value_and_grad(model, loss)(x)
    flat = dict(nn.utils.tree_flatten(gradients))
    mx.eval(value, flat)
    assert np.isfinite(value.item())
    for key, gradient in flat.items():
        assert np.isfinite(np.array(gradient)).all(), key
        # No parameter is left out of the network.
        assert mx.abs(gradient).max().item() > 0, key
    model.eval()
    save_model(model, tmp_path / "model.safetensors", dtype=mx.float32)
    again = load_model(tmp_path / "model.safetensors")
    assert again.config == model.config and mx.array_equal(again(x), model(x))


@pytest.mark.parametrize("width, madds, parameters", [(0.25, 41, 0.5), (0.5, 149, 1.3), (0.75, 325, 2.6)])
def test_widths_of_mobilenet_v1(width, madds, parameters):
    """Table 6 of its paper, in millions."""
    counted = count(create_model("mobilenet_v1", num_classes=1000, num_experts=None, width=width), (224, 224, 3))
    assert abs(counted.madds / 1e6 - madds) <= 0.01 * madds and round(counted.params / 1e6, 1) == parameters


@pytest.mark.parametrize("name", ROUTED)
def test_softmax_routing_in_every_router(name, tmp_path):
    model = create_model(name, num_experts=3, routing="softmax", router_dropout=0.2)
    x = mx.random.normal((2, 32, 32, 3))
    weights = [router.weights for router in trace(model, x).routers]
    assert len(weights) == len(ROUTED[name])
    # A sigmoid's add up to about one and a half.
    assert all(np.allclose(each.sum(axis=1), 1, atol=1e-5) for each in weights)
    save_model(model, tmp_path / "model.safetensors", dtype=mx.float32)
    again = load_model(tmp_path / "model.safetensors")
    assert again.config["routing"] == "softmax" and mx.array_equal(again(x), model.eval()(x))


def test_same_padding_and_epsilon():
    tensorflow = create_model("mobilenet_v2", num_experts=2, same_padding=True, norm_eps=1e-3)
    assert tensorflow.stem.padding == "same" and tensorflow.blocks[8].depthwise.padding == "same"
    assert {m.eps for m in tensorflow.modules() if isinstance(m, nn.BatchNorm)} == {1e-3}
    assert tensorflow(mx.zeros((1, 33, 41, 3))).shape == (1, 10)


def test_unknown_names_and_settings():
    with pytest.raises(ValueError, match="Did you mean mobilenet_v2 or mobilenet_v1"):
        create_model("mobilenet-v2")
    with pytest.raises(ValueError, match=r"width must be between 0.25 and 1, got 2"):
        create_model("mobilenet_v1", width=2)
    with pytest.raises(ValueError, match="efficientnet_b0 has no such setting: depth. It has num_classes, "):
        create_model("efficientnet_b0", depth=3)
    with pytest.raises(ValueError, match="resnet50 has no such setting: small_image. .* Did you mean small_images?"):
        create_model("resnet50", small_image=True)
    with pytest.raises(ValueError, match="a setting of mobilenet_v1 has the wrong type"):
        create_model("mobilenet_v1", width="half")
    assert set(PAPER) < set(list_models())


def _join(*parts):
    return ".".join(part for part in parts if part)


def model_at(model, name):
    return dict(model.named_modules())[name]
