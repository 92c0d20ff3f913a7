"""Static models that compute what CondConv models do with fixed routing weights."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from condconv_mlx import CondConv1d, CondConv2d, CondLinear, Router, create_model, load_model, save_model, static_layers
from condconv_mlx.convert.condconvert import condconvert
from condconv_mlx.convert.fold import FoldedConv1d, FoldedConv2d, FoldedLinear, fold
from condconv_mlx.explain import trace

CONDITIONAL = (CondConv1d, CondConv2d, CondLinear, Router)


def rand(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def relative(a, b):
    a, b = np.array(a), np.array(b)
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(b).max()


def folded_like_overridden(model, x):
    """The model folded for some routing, once it was seen to compute what `trace` does with that as override."""
    model.eval()
    generator = np.random.default_rng(3)
    routing = {router.name: generator.random(router.weights.shape[1]) for router in trace(model, x).routers}
    folded = fold(model, routing)
    assert not any(isinstance(module, CONDITIONAL) for module in folded.modules())
    assert relative(folded(x), trace(model, x, override=routing).output) < 1e-5
    assert relative(folded(x), model(x)) > 1e-4
    return folded


@pytest.mark.parametrize(
    ("layer", "shape", "kind"),
    [
        (lambda: CondConv2d(4, 6, 3, 3, stride=2, padding=1), (9, 9, 4), nn.Conv2d),
        (lambda: CondConv2d(4, 6, (3, 2), 3, padding=(1, 0), dilation=2, groups=2, bias=False), (9, 9, 4), nn.Conv2d),
        (lambda: CondConv2d(4, 4, 3, 3, stride=2, padding="same", groups=4), (9, 8, 4), FoldedConv2d),
        (lambda: CondConv2d(4, 6, 3, 3, padding=((2, 0), (0, 1))), (9, 9, 4), FoldedConv2d),
        (lambda: CondConv1d(4, 6, 3, 3, stride=2, padding=2, dilation=2, groups=2), (15, 4), nn.Conv1d),
        (lambda: CondConv1d(4, 6, 3, 3, padding=(2, 0), bias=False), (15, 4), FoldedConv1d),
        (lambda: CondConv1d(4, 6, 3, 3, stride=2, padding="same"), (15, 4), FoldedConv1d),
        (lambda: CondLinear(4, 6, 3), (4,), nn.Linear),
        (lambda: CondLinear(4, 6, 3, bias=False), (5, 2, 4), nn.Linear),
    ],
)
def test_each_kind_of_layer_with_a_router_of_its_own(layer, shape, kind):
    mx.random.seed(0)
    layer = layer()
    if "bias" in layer:
        layer.bias = rand(*layer.bias.shape)
    x = rand(3, *shape)
    assert type(folded_like_overridden(layer, x)) is kind
    assert type(folded_like_overridden(nn.Sequential(layer, nn.relu), x).layers[0]) is kind


@pytest.mark.parametrize(
    ("name", "options"), [("condconv_small", {"width": 8}), ("mobilenet_v1", {"width": 0.25, "small_images": True})]
)
def test_a_network_of_the_zoo_becomes_its_static_twin(tmp_path, name, options):
    mx.random.seed(0)
    model = create_model(name, num_experts=3, **options)
    x = rand(3, 32, 32, 3)
    folded = folded_like_overridden(model, x)
    assert folded.config == {**model.config, "num_experts": None} and model.config["num_experts"] == 3
    save_model(folded, tmp_path / "folded.safetensors", dtype=mx.float32)
    loaded = load_model(tmp_path / "folded.safetensors")
    assert type(loaded.classifier) is nn.Linear
    assert relative(loaded(x), folded(x)) < 1e-5


def test_a_converted_model_folds_back_to_the_original():
    mx.random.seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.gelu, static_layers.Conv2d(8, 8, 3, groups=8), lambda x: x.mean((1, 2)), nn.Linear(8, 5)
    )
    x = rand(3, 9, 9, 3)
    converted = condconvert(model, 4)
    folded = fold(converted, {router.name: router.weights[0] for router in trace(converted, x).routers})
    assert relative(folded(x), model(x)) < 1e-5
    assert [type(folded.layers[index]) for index in (0, 2, 4)] == [nn.Conv2d, nn.Conv2d, nn.Linear]
    for (name, ours), (_, theirs) in zip(
        tree_flatten(folded.parameters()), tree_flatten(model.parameters()), strict=True
    ):
        assert np.allclose(np.array(ours), np.array(theirs), atol=1e-6), name
    assert isinstance(converted.layers[0], CondConv2d)


def test_a_converted_network_of_the_zoo_folds():
    mx.random.seed(0)
    model = condconvert(create_model("condconv_small", width=8, num_experts=None), 2, "blocks.*")
    folded = folded_like_overridden(model, rand(3, 32, 32, 3))
    assert folded.config == {}


class Shared(nn.Module):
    """A router of a model of one's own, for all three kinds of layers, one of them in a module inside."""

    def __init__(self):
        super().__init__()
        self.gate = Router(4, 3)
        self.conv = CondConv2d(4, 6, 3, 3, padding=1, router=False)
        self.inside = [nn.Module()]
        self.inside[0].conv = CondConv1d(6, 6, 3, 3, padding=1, router=False)
        self.head = CondLinear(6, 5, 3, router=False)
        self.own = CondLinear(5, 5, 3)

    def __call__(self, x):
        routing = self.gate(x)
        x = self.conv(x, routing).mean(axis=1)
        x = self.inside[0].conv(x, routing)
        return self.own(self.head(x, routing))


def test_layers_that_share_a_router_take_none():
    mx.random.seed(0)
    folded = folded_like_overridden(Shared(), rand(3, 8, 8, 4))
    kinds = [type(layer) for layer in (folded.conv, folded.inside[0].conv, folded.head, folded.own)]
    assert kinds == [FoldedConv2d, FoldedConv1d, FoldedLinear, nn.Linear]
    assert folded.gate(None) is None
    assert not dict(tree_flatten(folded.gate.parameters()))


def test_modules_that_sit_in_two_places_still_do():
    model = nn.Sequential(CondLinear(4, 4, 2), nn.relu, nn.Linear(4, 4))
    model.layers += [model.layers[0], model.layers[2]]
    folded = folded_like_overridden(model, rand(3, 4))
    assert folded.layers[3] is folded.layers[0] and folded.layers[4] is folded.layers[2]
    assert folded.layers[2].weight is model.layers[2].weight


def test_dtype_mode_and_freezing_are_kept():
    layer = CondConv2d(4, 6, 3, 3)
    layer.set_dtype(mx.bfloat16)
    layer.freeze()
    folded = fold(nn.Sequential(layer).eval(), {"layers.0.router": [0.2, 0.5, 1]}).layers[0]
    assert folded.weight.dtype == folded.bias.dtype == mx.bfloat16
    assert not folded.training and not dict(tree_flatten(folded.trainable_parameters()))
    assert fold(CondLinear(4, 4, 2), {"router": np.array([1, 0])}).training


def test_a_static_model_folds_to_a_copy():
    model = nn.Sequential(nn.Linear(4, 4))
    assert relative(fold(model, {})(rand(2, 4)), model(rand(2, 4))) == 0


def two_gates():
    model = Shared()
    model.other = Router(4, 3)
    return model


def two_feeders():
    model = nn.Module()
    model.a, model.b, layer = nn.Module(), nn.Module(), CondLinear(4, 4, 2, router=False)
    for part in (model.a, model.b):
        part.router, part.layer = Router(4, 2), layer
    return model


def unfed():
    return nn.Sequential(CondLinear(4, 4, 2, router=False))


def unseen():
    return nn.Sequential(nn.Sequential(Router(4, 2)), CondLinear(4, 4, 2))


def of_ones_own():
    class Mine(CondLinear):
        pass

    return Mine(4, 4, 2)


@pytest.mark.parametrize(
    ("model", "routing", "says"),
    [
        (Shared, {"gate": [1, 0, 0]}, "must name all 2 routers, it lacks own.router"),
        (Shared, {"gate": [1, 0, 0], "own": [1, 0, 0]}, r"no router is called 'own'; the model has \['gate', 'own.r"),
        (Shared, {"gate": [1, 0, 0], "own.router": [[1, 0, 0]]}, r"'own.router' must be \(E,\) = \(3,\), got .*3\)"),
        (two_gates, dict.fromkeys(("gate", "other", "own.router"), [1, 0, 0]), "may be fed by any of the 2 routers"),
        (two_feeders, dict.fromkeys(("a.router", "b.router"), [1, 0]), "is fed by two routers"),
        (unfed, {}, "it cannot be seen what feeds 'layers.0'"),
        (unseen, dict.fromkeys(("layers.0.layers.0", "layers.1.router"), [1, 0]), "'layers.0.layers.0' feeds no layer"),
        (of_ones_own, {"router": [1, 0]}, "Mine is no layer of this package"),
    ],
)  # fmt: skip
def test_what_cannot_be_folded_is_refused(model, routing, says):
    with pytest.raises(ValueError, match=rf"^\[fold\] .*{says}"):
        fold(model(), routing)


def test_a_resnet_of_mlx_image_converted_and_folded():
    mlxim = pytest.importorskip("mlxim.model", reason="wants mlx-image", exc_type=ImportError)
    mx.random.seed(0)
    model = mlxim.create_model("resnet18", weights=False, num_classes=5).eval()
    converted = condconvert(model, 2, "layer4.*")
    folded_like_overridden(converted, rand(2, 64, 64, 3))
