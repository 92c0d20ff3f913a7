"""condconv_small: shapes, size, cost, and that it learns."""

from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from condconv_mlx import create_model, list_models, save_model
from condconv_mlx.complexity import count
from condconv_mlx.explain import trace
from condconv_mlx.layers import Router


def madds(size, channels, width, experts, classes=10):
    """By hand: every product of the convolutions, routers and the classifier, and the mixing of the experts."""
    total, pixels, mixed = 9 * channels * width * size**2, size, 0
    sizes = [width, *(round(share * width) for share in (1.5, 4.5, 6))]
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        first, second = 9 * inputs * outputs, 9 * outputs * outputs
        total += first * pixels**2 + second * (pixels // 2) ** 2
        pixels //= 2
        if experts and index:
            mixed += first + second
            total += inputs * experts
    total += sizes[-1] * classes
    if experts:
        mixed += sizes[-1] * classes + classes
        total += sizes[-1] * experts + experts * mixed
    return total


def test_is_within_its_budget(tmp_path):
    assert madds(32, 3, 24, 8) < 45e6
    assert madds(28, 1, 18, 8) < 20e6
    save_model(create_model("condconv_small"), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_size < 10e6


@pytest.mark.parametrize("experts", [None, 4])
@pytest.mark.parametrize("size", [28, 33])
def test_multiply_adds_are_those_by_hand(experts, size):
    model = create_model("condconv_small", num_experts=experts, width=9)
    assert count(model, (size, size, 3)).madds == madds(size, 3, 9, experts)


def test_parameters_are_those_counted_by_hand():
    kernels = {"stem": 9 * 3 * 24, "static": 9 * 24 * 36 + 9 * 36 * 36}
    mixed = 9 * (36 * 108 + 108 * 108 + 108 * 144 + 144 * 144)
    norms = 2 * (24 + 2 * (36 + 108 + 144))
    routers = (36 + 1 + 108 + 1 + 144 + 1) * 8
    router_norms = 2 * (36 + 108 + 144)
    classifier = 8 * (144 * 10 + 10)
    wanted = sum(kernels.values()) + 8 * mixed + norms + routers + router_norms + classifier
    model = create_model("condconv_small")
    assert sum(value.size for _, value in tree_flatten(model.trainable_parameters())) == wanted
    # The running mean and variance of batch normalisation come on top.
    assert sum(value.size for _, value in tree_flatten(model.parameters())) == wanted + norms + router_norms


@pytest.mark.parametrize("size", [28, 29, 32, 47, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("experts", [None, 1, 4])
def test_sizes_channels_and_experts(size, channels, experts):
    model = create_model("condconv_small", num_classes=7, num_experts=experts, in_channels=channels, width=8)
    assert model.eval()(mx.zeros((2, size, size, channels))).shape == (2, 7)


def test_one_router_a_block_shared_by_its_convolutions():
    model = create_model("condconv_small", width=8)
    result = trace(model, np.zeros((2, 32, 32, 3), np.float32))
    assert [(router.name, router.layers) for router in result.routers] == [
        ("blocks.1.router", ["blocks.1.conv1", "blocks.1.conv2"]),
        ("blocks.2.router", ["blocks.2.conv1", "blocks.2.conv2"]),
        ("classifier.router", ["classifier"]),
    ]


def test_static_twin_has_no_routers():
    model = create_model("condconv_small", num_experts=None, width=8)
    assert trace(model, np.zeros((2, 32, 32, 3), np.float32)).routers == []


def test_all_experts_alike_and_weights_that_sum_to_one_give_the_static_twin():
    twin, model = (create_model("condconv_small", num_experts=experts, width=8) for experts in (None, 8))
    source = dict(tree_flatten(twin.parameters()))
    arrays = []
    for name, value in tree_flatten(model.parameters()):
        if name in source:
            copied = source[name]
            arrays.append((name, mx.repeat(copied[None], 8, 0) if value.ndim > copied.ndim else copied))
    model.load_weights(arrays, strict=False)
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    even = {name: np.full(8, 1 / 8) for name in ("blocks.1.router", "blocks.2.router", "classifier.router")}
    assert np.allclose(trace(model, x, even).output, trace(twin, x).output, atol=1e-4)


def test_names_and_settings():
    assert "condconv_small" in list_models()
    with pytest.raises(ValueError, match="must be one of"):
        create_model("condconv_large")
    with pytest.raises(ValueError, match="no such setting"):
        create_model("condconv_small", depth=3)
    assert create_model("condconv_small", width=8).config == {
        "name": "condconv_small",
        "num_classes": 10,
        "num_experts": 8,
        "in_channels": 3,
        "width": 8,
        "router_dropout": 0.0,
        "channels": None,
        "conditional_from": 1,
        "routing": "sigmoid",
        "separate_routers": False,
    }


def test_where_condconv_starts():
    for start, wanted in ((0, ["blocks.0", "blocks.1", "blocks.2", "classifier"]), (3, ["classifier"])):
        model = create_model("condconv_small", width=4, conditional_from=start)
        result = trace(model, np.zeros((2, 32, 32, 3), np.float32))
        assert [router.name for router in result.routers] == [f"{name}.router" for name in wanted]


def test_softmax_routing_and_its_dropout_in_every_router():
    model = create_model("condconv_small", width=4, routing="softmax", router_dropout=0.5)
    result = trace(model, np.zeros((2, 32, 32, 3), np.float32))
    assert all(np.allclose(router.weights.sum(axis=1), 1) for router in result.routers)
    routers = [module for module in model.modules() if isinstance(module, Router)]
    assert len(routers) == 3 and all("p=0.5" in repr(router.dropout) for router in routers)


def test_separate_routers_are_one_a_layer_on_its_own_input():
    model = create_model("condconv_small", width=4, separate_routers=True)
    result = trace(model, np.zeros((2, 32, 32, 3), np.float32))
    layers = [f"blocks.{layer}" for layer in ("1.conv1", "1.conv2", "2.conv1", "2.conv2")]
    assert sorted(router.name for router in result.routers) == [f"{name}.router" for name in (*layers, "classifier")]
    assert all(router.layers == [router.name.removesuffix(".router")] for router in result.routers)
    assert model.blocks[1].conv2.router.linear.weight.shape == (8, 18)


def test_channels_of_the_blocks():
    model = create_model("condconv_small", num_experts=None, width=4, channels=[9, 17, 18])
    assert model(mx.zeros((2, 28, 28, 3))).shape == (2, 10)
    assert [block.conv2.weight.shape[0] for block in model.blocks] == [9, 17, 18]
    same = create_model("condconv_small", width=4, channels=(6, 18, 24))
    shapes = [
        [value.shape for _, value in tree_flatten(m.parameters())]
        for m in (same, create_model("condconv_small", width=4))
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "options",
    [
        {"conditional_from": 4},
        {"conditional_from": True},
        {"separate_routers": 1},
        {"channels": [8, 16]},
        {"channels": [8, 16, 0]},
        {"routing": "hard"},
    ],
)
def test_settings_that_make_no_network(options):
    with pytest.raises(ValueError, match="must be"):
        create_model("condconv_small", width=4, **options)


@pytest.mark.parametrize("experts", [None, 4])
def test_exported_for_inference_it_does_the_same(tmp_path, experts):
    model = create_model("condconv_small", width=8, num_experts=experts).eval()
    x = mx.random.normal((2, 32, 32, 3))
    mx.export_function(str(tmp_path / "model.mlxfn"), lambda x: model(x), x)
    assert np.allclose(np.array(mx.import_function(str(tmp_path / "model.mlxfn"))(x)[0]), np.array(model(x)), atol=1e-5)
