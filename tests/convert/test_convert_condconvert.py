"""CondConv layers in place of static ones: the same function at first, and what training makes of it."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from condconv_mlx import CondConv1d, CondConv2d, CondLinear, create_model, save_model, static_layers
from condconv_mlx.convert.condconvert import condconvert
from condconv_mlx.explain import trace


def rand(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def relative(a, b):
    assert a.shape == b.shape
    return float(mx.abs(a - b).max() / mx.abs(b).max())


def arrays(model):
    return dict(tree_flatten(model.parameters()))


def biased(layer):
    layer.bias = rand(*layer.bias.shape, seed=7)
    return layer


class Block(nn.Module):
    """Layers in attributes, lists, dictionaries and twice, beside functions of MLX and things that are no layers."""

    def __init__(self):
        super().__init__()
        self.stem = biased(nn.Conv2d(4, 8, 3, padding=1))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.steps = [nn.gelu, nn.Sequential(nn.Conv2d(8, 8, 1), partial(mx.multiply, 2.0))]
        self.named = {"twice": self.depthwise, "deep": [{"linear": nn.Linear(8, 8)}]}
        self.norm = nn.BatchNorm(8)
        self.pair = (3, "text")
        self.call_head = self.named["deep"][0]["linear"].__call__

    def __call__(self, x):
        x = self.named["twice"](self.depthwise(self.norm(self.stem(x))))
        for step in self.steps:
            x = step(x)
        return self.call_head(x.mean(axis=(1, 2)))


LAYERS = [
    (lambda: biased(nn.Conv2d(4, 6, 3)), (9, 8, 4)),
    (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False), (9, 8, 4)),
    (lambda: biased(nn.Conv2d(4, 6, 3, groups=2)), (9, 8, 4)),
    (lambda: nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4), (9, 8, 4)),
    (lambda: static_layers.Conv2d(4, 6, 3, stride=2, padding="same"), (9, 8, 4)),
    (lambda: biased(nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)), (15, 4)),
    (lambda: nn.Conv1d(4, 4, 3, groups=4, bias=False), (15, 4)),
    (lambda: nn.Linear(4, 6), (4,)),
    (lambda: nn.Linear(4, 6, bias=False), (5, 3, 4)),
]


@pytest.mark.parametrize("options", [{}, {"activation": "softmax", "temperature": 30}, {"norm": True, "hidden": 3}])
@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_each_kind_of_layer_keeps_its_function_and_can_be_the_whole_model(layer, shape, options):
    static = layer().eval()
    for experts in (1, 5):
        converted = condconvert(static, experts, **options)
        assert type(converted) in (CondConv2d, CondConv1d, CondLinear)
        assert converted.weight.shape[0] == experts
        for seed, scale in enumerate((1e-3, 1, 1e3)):
            x = scale * rand(3, *shape, seed=seed)
            assert relative(converted(x), static(x)) < 1e-5
    assert type(static) in (nn.Conv2d, static_layers.Conv2d, nn.Conv1d, nn.Linear)


def test_a_whole_model_keeps_its_function_and_the_original_its_layers():
    model = Block().eval()
    before = arrays(model)
    converted = condconvert(model)
    x = rand(4, 7, 7, 4)
    assert relative(converted(x), model(x)) < 1e-4
    assert isinstance(converted, Block) and not converted.training and converted.pair == (3, "text")
    assert isinstance(converted.stem, CondConv2d) and isinstance(model.stem, nn.Conv2d)
    assert isinstance(converted.steps[1].layers[0], CondConv2d) and isinstance(model.steps[1].layers[0], nn.Conv2d)
    assert converted.named["twice"] is converted.depthwise and isinstance(converted.depthwise, CondConv2d)
    assert converted.call_head.__self__ is converted.named["deep"][0]["linear"]
    assert isinstance(converted.named["deep"][0]["linear"], CondLinear)
    assert arrays(model).keys() == before.keys() and all(arrays(model)[name] is before[name] for name in before)
    assert converted.norm is not model.norm and converted.norm.weight is model.norm.weight
    assert len(trace(converted, x).routers) == 5  # the depthwise layer runs twice


def test_experts_mix_to_the_kernel_but_differ():
    static = biased(nn.Conv2d(4, 6, 3))
    layer = condconvert(static, 8, noise=0.25)
    assert np.allclose(np.array(layer.weight.sum(0)) / 2, np.array(static.weight), atol=1e-6)
    assert np.allclose(np.array(layer.bias), np.array(static.bias) / 4)
    apart = layer.weight - static.weight / 4
    assert 0.8 < float(apart.std() / static.weight.std()) / 0.25 < 1.1
    assert not np.array(condconvert(static, 8, noise=0).weight - static.weight / 4).any()
    static.weight = mx.zeros_like(static.weight)
    assert float(condconvert(static).weight.std()) > 0
    assert not np.array(mx.abs(condconvert(static).weight.sum(0)) > 1e-6).any()


def test_the_seed_decides_the_noise_and_leaves_mlx_its_own():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    first, again, other = (condconvert(model, 3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(np.array(first.layers[0].weight), np.array(again.layers[0].weight))
    assert not np.array_equal(np.array(first.layers[0].weight), np.array(other.layers[0].weight))
    spread = [np.array(layer.weight - layer.weight.mean(0)) for layer in first.layers]
    assert not np.allclose(spread[0], spread[1])


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("stem", {"stem"}),
        ("steps.*", {"steps.1.layers.0"}),
        (["stem", "named.deep*"], {"stem", "named.deep.0.linear"}),
        ("named.twice", {"depthwise", "named.twice"}),
        (lambda name, layer: isinstance(layer, nn.Linear), {"named.deep.0.linear"}),
        (lambda name, layer: getattr(layer, "groups", 1) > 1, {"depthwise", "named.twice"}),
    ],
)
def test_where_chooses(where, names):
    converted = condconvert(Block(), 3, where)
    kinds = (CondConv2d, CondLinear)
    assert {name for name, module in converted.named_modules() if isinstance(module, kinds)} == names


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("steem", r"where='steem' matches no layer. Those that can be replaced are 'stem' \(Conv2d\), 'depthwise'"),
        (["stem", "norm"], r"where='norm' matches no layer, only 'norm' \(BatchNorm\)"),
        (lambda name, layer: False, "chooses no layer"),
        ([], "chooses no layer"),
    ],
)
def test_where_that_chooses_nothing_is_refused(where, says):
    with pytest.raises(ValueError, match=says):
        condconvert(Block(), 3, where)


def test_what_computes_something_else_is_left_alone():
    class Doubled(nn.Linear):
        def __call__(self, x):
            return 2 * super().__call__(x)

    model = nn.Sequential(Doubled(64, 64), nn.Linear(64, 64), nn.QuantizedLinear(64, 64), nn.Conv3d(2, 2, 1))
    converted = condconvert(model)
    kinds = [type(layer) for layer in converted.layers]
    assert kinds == [Doubled, CondLinear, nn.QuantizedLinear, nn.Conv3d]
    with pytest.raises(ValueError, match=r"only 'layers.2' \(QuantizedLinear\)"):
        condconvert(model, where="layers.2")
    with pytest.raises(ValueError, match="The model has no nn.Conv2d, nn.Conv1d or nn.Linear of its own"):
        condconvert(converted)


def test_routers_are_not_converted_themselves():
    converted = condconvert(create_model("condconv_small", width=4, num_experts=2), 3)
    assert isinstance(converted.stem, CondConv2d)
    assert type(converted.classifier.router.linear) is nn.Linear


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_the_dtype_is_kept(dtype):
    model = nn.Sequential(biased(nn.Conv2d(4, 8, 3)), nn.relu, nn.Linear(8, 3))
    model.set_dtype(dtype)
    converted = condconvert(model, 4)
    assert {value.dtype for value in arrays(converted).values()} == {dtype}
    x = rand(2, 8, 8, 4).astype(dtype)
    assert converted(x).dtype == dtype and relative(converted(x), model(x)) < 0.05


def test_mode_and_freezing_are_kept_and_routers_are_free():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model.layers[0].freeze()
    model.layers[0].eval()
    converted = condconvert(model, 2)
    free = dict(tree_flatten(converted.trainable_parameters()))
    routers = {f"layers.{i}.router.linear.{name}" for i in (0, 1) for name in ("weight", "bias")}
    assert free.keys() == routers | {"layers.1.weight", "layers.1.bias"}
    assert [layer.training for layer in converted.layers] == [False, True]
    converted.layers[0].unfreeze()
    assert "weight" not in dict(tree_flatten(model.layers[0].trainable_parameters()))


def test_a_converted_network_of_the_zoo_is_not_saved_as_what_it_no_longer_is(tmp_path):
    model = create_model("condconv_small", width=4, num_experts=None)
    converted = condconvert(model, 2, "blocks.*")
    with pytest.raises(ValueError, match="only a model made by create_model"):
        save_model(converted, tmp_path / "a.safetensors")
    save_model(model, tmp_path / "b.safetensors")
    other = nn.Sequential(nn.Linear(2, 2))
    other.config = {"hidden": 3}
    assert condconvert(other).config == {"hidden": 3}


@pytest.mark.parametrize(
    ("options", "says"),
    [({"noise": -1.0}, "noise must be at least 0, got -1.0"), ({"num_experts": 0}, "num_experts must be an integer")],
)
def test_wrong_arguments_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        condconvert(nn.Linear(2, 2), **options)


def two_kinds_of_images(count):
    """Images (N, 8, 8, 2), bright or dark in the second channel, and their first, which the dark ones negate."""
    x, bright = rand(count, 8, 8, 2), mx.array(np.random.default_rng(1).choice([-1.0, 1.0], (count, 1, 1, 1)))
    bright = bright.astype(mx.float32)
    return x + bright * mx.array([0.0, 1.0]), bright * x[..., :1]


def trained(model, steps=60):
    """First and last loss of the network on `two_kinds_of_images`."""
    x, wanted = two_kinds_of_images(64)
    optimizer = optim.Adam(1e-2)
    step = nn.value_and_grad(model, lambda model: ((model(x) - wanted) ** 2).mean())
    losses = []
    for _ in range(steps):
        loss, gradients = step(model)
        optimizer.update(model, gradients)
        losses.append(loss.item())
    return losses[0], losses[-1]


def deviations(model):
    """How far the weights of each router deviate from image to image."""
    return [router.weights.std(axis=0).max() for router in trace(model, two_kinds_of_images(64)[0]).routers]


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_training_parts_the_experts_and_the_loss_falls(activation):
    mx.random.seed(0)
    static = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 1, 1))
    model = condconvert(static, 4, activation=activation)
    assert max(deviations(model)) == 0
    first, last = trained(model)
    assert first > 0.9 and last < 0.05
    assert max(deviations(model)) > 0.3
    # No single kernel serves both kinds of images.
    assert trained(static)[1] > 0.9


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_without_noise_the_experts_never_part(activation):
    mx.random.seed(0)
    static = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 1, 1))
    model = condconvert(static, 4, noise=0, activation=activation)
    assert trained(model)[1] > 0.4
    assert all(float(mx.abs(layer.weight - layer.weight[0]).max()) < 1e-3 for layer in model.layers)


def test_a_resnet_of_mlx_image():
    mlxim = pytest.importorskip("mlxim.model", reason="wants mlx-image", exc_type=ImportError)
    mx.random.seed(0)
    model = mlxim.create_model("resnet18", weights=False, num_classes=5).eval()
    converted = condconvert(model, 4, ["layer4.*", "fc"])
    x = rand(2, 64, 64, 3)
    assert relative(converted(x), model(x)) < 1e-4
    assert [router.name for router in trace(converted, x).routers] == [
        "layer4.layers.0.conv1.router",
        "layer4.layers.0.conv2.router",
        "layer4.layers.0.downsample.layers.0.router",
        "layer4.layers.1.conv1.router",
        "layer4.layers.1.conv2.router",
        "fc.router",
    ]
