"""The layers against MLX's static ones, and what they do with routing."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from condconv_mlx import CondConv1d, CondConv2d, CondLinear, Router


def rand(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def close(a, b, tolerance=1e-5):
    assert a.shape == b.shape
    assert np.allclose(np.array(a), np.array(b), atol=tolerance * max(1.0, float(mx.abs(b).max())))


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2}, {"groups": 4, "padding": 1}, {"bias": False}],
)
def test_one_expert_of_weight_one_is_conv2d(options):
    static = nn.Conv2d(4, 8, 3, **options)
    layer = CondConv2d(4, 8, 3, num_experts=1, router=False, **options)
    layer.weight = static.weight[None]
    if "bias" in static:
        static.bias = rand(8)
        layer.bias = static.bias[None]
    x = rand(3, 9, 9, 4)
    close(layer(x, mx.ones((3, 1))), static(x))


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 2}, {"dilation": 3}, {"groups": 2}])
def test_conv1d_is_a_loop_of_conv1d(options):
    layer = CondConv1d(4, 6, 3, num_experts=3, **options)
    layer.bias = rand(3, 6)
    x = rand(4, 15, 4)
    routing = layer.router(x)
    weight = mx.tensordot(routing, layer.weight, axes=1)
    bias = routing @ layer.bias
    wanted = mx.concatenate([mx.conv1d(x[n : n + 1], weight[n], **options) + bias[n] for n in range(4)])
    close(layer(x), wanted)


def test_conv1d_paddings():
    layer = CondConv1d(4, 6, 4, num_experts=2, stride=2, padding="same")
    assert layer(rand(2, 15, 4)).shape == (2, 8, 6)
    assert CondConv1d(4, 6, 4, padding=(3, 0))(rand(2, 15, 4)).shape == (2, 15, 6)
    assert CondConv1d(4, 6, 4, padding="valid")(rand(2, 15, 4)).shape == (2, 12, 6)


@pytest.mark.parametrize("shape", [(5, 7), (5, 3, 7), (5, 2, 3, 7)])
def test_linear_is_the_mixture_of_matrices(shape):
    layer = CondLinear(7, 4, num_experts=3)
    x = rand(*shape)
    routing = layer.router(x)
    weight, bias = mx.tensordot(routing, layer.weight, axes=1), routing @ layer.bias
    wanted = mx.stack([x[n] @ weight[n].T + bias[n] for n in range(5)])
    close(layer(x), wanted)
    assert CondLinear(7, 4, bias=False)(x).shape == (*shape[:-1], 4)


def test_sigmoid_router_is_the_papers():
    router = Router(6, 4)
    x = rand(3, 5, 7, 6)
    logits = np.array(x).mean(axis=(1, 2)) @ np.array(router.linear.weight).T + np.array(router.linear.bias)
    close(router(x), mx.array(1 / (1 + np.exp(-logits))))
    assert router(x).shape == (3, 4)


def test_softmax_router_and_temperature():
    router = Router(6, 4, activation="softmax", temperature=30.0)
    x = rand(3, 6)
    logits = (np.array(x) @ np.array(router.linear.weight).T + np.array(router.linear.bias)) / 30
    close(router(x), mx.array(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)))


def test_hidden_router():
    router = Router(6, 4, hidden=3)
    x = rand(3, 6)
    hidden = np.maximum(np.array(x) @ np.array(router.hidden.weight).T + np.array(router.hidden.bias), 0)
    logits = hidden @ np.array(router.linear.weight).T + np.array(router.linear.bias)
    close(router(x), mx.array(1 / (1 + np.exp(-logits))))


def test_a_normalising_router_does_so_over_the_batch_and_in_inference_is_linear():
    router = Router(4, 3, norm=True)
    x = rand(16, 5, 5, 4) + 10
    means = x.mean((1, 2))
    normal = (means - means.mean(0)) / mx.sqrt(mx.var(means, 0) + 1e-5)
    close(router(x), mx.sigmoid(router.linear(normal)), 1e-4)
    router.norm.running_mean, router.norm.running_var = rand(4, seed=1), mx.abs(rand(4, seed=2)) + 0.1
    router.eval()
    scale = router.norm.weight * mx.rsqrt(router.norm.running_var + router.norm.eps)
    shift = router.norm.bias - router.norm.running_mean * scale
    folded = (means @ (router.linear.weight * scale).T) + router.linear.weight @ shift + router.linear.bias
    close(router(x), mx.sigmoid(folded), 1e-5)


def test_dropout_of_routing_weights_only_in_training():
    router = Router(6, 64, dropout=0.5)
    x = rand(8, 6)
    router.eval()
    steady = router(x)
    assert (np.array(steady) > 0).all()
    router.train()
    share = float((router(x) == 0).mean())
    assert 0.3 < share < 0.7


def test_experts_start_as_conv2d_and_linear_start():
    mx.random.seed(0)
    layer = CondConv2d(8, 32, 3, num_experts=16, groups=2)
    bound = np.sqrt(1 / (4 * 9))  # of the channels of one group
    static = nn.Conv2d(8, 32, 3, groups=2).weight
    assert abs(float(mx.abs(static).max()) - bound) < 0.02 * bound
    assert layer.weight.shape == (16, *static.shape)
    for expert in layer.weight:
        assert float(mx.abs(expert).max()) <= bound
        assert abs(float(expert.std()) / (bound / np.sqrt(3)) - 1) < 0.1
    assert not np.array(layer.bias).any()
    assert abs(float(mx.abs(CondLinear(50, 40).weight).max()) - np.sqrt(1 / 50)) < 0.01


def test_weights_passed_in_win_over_the_own_router():
    layer = CondConv2d(4, 6, 3, num_experts=3)
    x, given = rand(2, 6, 6, 4), mx.array([[1.0, 0, 0], [0, 0, 1.0]])
    wanted = mx.concatenate([mx.conv2d(x[:1], layer.weight[0]), mx.conv2d(x[1:], layer.weight[2])])
    close(layer(x, given), wanted)


def test_all_parameters_get_gradients():
    layer = CondConv2d(4, 4, 3, num_experts=3, groups=4, padding="same")
    x = rand(2, 6, 6, 4)
    _, gradients = nn.value_and_grad(layer, lambda layer, x: (layer(x) ** 2).sum())(layer, x)
    flat = dict(tree_flatten(gradients))
    assert set(flat) == {"weight", "bias", "router.linear.weight", "router.linear.bias"}
    layer.bias = layer.bias + 1
    _, gradients = nn.value_and_grad(layer, lambda layer, x: (layer(x) ** 2).sum())(layer, x)
    assert all(float(mx.abs(value).max()) > 0 for _, value in tree_flatten(gradients))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: CondConv2d(4, 6, 3, router=False)(mx.zeros((1, 5, 5, 4))), r"layer\(x, routing_weights\)"),
        (lambda: CondConv2d(4, 6, 3, num_experts=0), "num_experts must be an integer >= 1, got 0"),
        (lambda: CondConv2d(4, 6, 3, groups=3), "got 3 groups for 4 channels in and 6 out"),
        (lambda: CondConv2d(4, 6, 3)(mx.zeros((1, 5, 5, 3))), r"\(N, \.\.\., 4\), got shape \(1, 5, 5, 3\)"),
        (lambda: CondConv2d(4, 6, 3)(mx.zeros((1, 5, 5, 4)), mx.zeros((1, 7))), r"\(1, 8\), got shape \(1, 7\)"),
        (lambda: CondConv1d(4, 6, 3)(mx.zeros((5, 4))), r"\(N, L, Cin\), got shape \(5, 4\)"),
        (lambda: CondConv1d(4, 6, 3, groups=3), "groups must divide"),
        (lambda: CondLinear(4, 6)(mx.zeros((5, 3))), r"\(N, \.\.\., 4\), got shape \(5, 3\)"),
        (lambda: Router(4, 6, activation="relu"), '"sigmoid" or "softmax", got "relu"'),
        (lambda: Router(4, 6, temperature=0), "temperature must be above 0, got 0"),
        (lambda: Router(4, 6)(mx.zeros((4,))), "x must be"),
    ],
)
def test_bad_arguments_say_what_was_given_and_wanted(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_repr_tells_the_shape():
    assert "num_experts=8" in repr(CondConv2d(4, 6, 3)) and "groups=2" in repr(CondConv2d(4, 6, 3, groups=2))
    assert "4, 6" in repr(CondLinear(4, 6)) and "kernel_size=3" in repr(CondConv1d(4, 6, 3))


@pytest.mark.parametrize("dtype, tolerance", [(mx.float16, 1e-3), (mx.bfloat16, 1e-2)])
def test_pooling_many_positions_in_half_precision(dtype, tolerance):
    """The sum of these leaves the range of float16; the mean does not."""
    mx.random.seed(0)
    router = Router(3, 4)
    x = mx.full((1, 150, 150, 3), 6.0)
    wanted = router(x)
    router.set_dtype(dtype)
    found = router(x.astype(dtype))
    assert found.dtype == dtype and mx.abs(found.astype(mx.float32) - wanted).max().item() < 6 * tolerance
