"""The static layers against MLX's own: outputs, gradients, and what they keep."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from condconv_mlx.static_layers import BatchNorm, Conv2d, MaxPool, ReLU, ReLU6, SiLU


def rand(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def close(a, b, tolerance=1e-5):
    assert a.shape == b.shape and a.dtype == b.dtype
    a, b = a.astype(mx.float32), b.astype(mx.float32)
    assert np.allclose(np.array(a), np.array(b), atol=tolerance * max(1.0, float(mx.abs(b).max())))


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2}, {"bias": False}])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_conv2d(options, kernel_size, training):
    layer = Conv2d(4, 6, kernel_size, **options).train(training)
    x = rand(2, 9, 9, 4)
    close(layer(x), nn.Conv2d.__call__(layer, x))


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"bias": False, "padding": 2}])
@pytest.mark.parametrize("n", [1, 3])
def test_depthwise_conv2d_and_its_gradients(options, n):
    layer, x = Conv2d(5, 5, 3, groups=5, **options), rand(n, 9, 8, 5)
    theirs = nn.Conv2d(5, 5, 3, groups=5, **options)
    theirs.update(layer.parameters())
    close(layer.eval()(x), theirs(x))
    close(layer.train()(x), theirs(x))
    cotangent = rand(*layer(x).shape, seed=3)
    for (name, one), (_, other) in zip(gradients(layer, x, cotangent), gradients(theirs, x, cotangent), strict=True):
        assert one.shape == other.shape, name
        close(one, other)


def gradients(layer, x, cotangent):
    def loss(parameters, x):
        layer.update(parameters)
        return (layer(x) * cotangent).sum()

    of_parameters, of_x = mx.grad(loss, argnums=(0, 1))(layer.trainable_parameters(), x)
    return [("x", of_x), *tree_flatten(of_parameters)]


@pytest.mark.parametrize("shape", [(8, 5), (4, 7, 5), (3, 6, 7, 5)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_batch_norm_and_its_gradients(shape, offset):
    ours, theirs = BatchNorm(5), nn.BatchNorm(5)
    for layer in (ours, theirs):
        layer.weight, layer.bias = rand(5, seed=1), rand(5, seed=2)
    x, cotangent = rand(*shape) * 3 + offset, rand(*shape, seed=3)
    tolerance = 1e-5 if offset == 0 else 1e-3
    close(ours(x), theirs(x), tolerance)
    for name in ("running_mean", "running_var"):
        close(ours[name], theirs[name])
    for (name, one), (other_name, other) in zip(
        gradients(ours, x, cotangent), gradients(theirs, x, cotangent), strict=True
    ):
        assert name == other_name
        close(one, other, tolerance)
    close(ours.eval()(x), theirs.eval()(x))


def test_batch_norm_in_half_precision_and_its_second_derivative():
    x = rand(4, 5, 5, 3)
    close(BatchNorm(3)(x.astype(mx.float16)).astype(mx.float32), nn.BatchNorm(3)(x), 5e-3)

    def norm(layer):
        inner = mx.grad(lambda x: (layer(x) ** 3).sum())
        return mx.grad(lambda x: (inner(x) ** 2).sum())(x)

    close(norm(BatchNorm(3)), norm(nn.BatchNorm(3)), 1e-4)


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_batch_norm_without_parameters_or_statistics(options):
    x = rand(4, 5, 3)
    close(BatchNorm(3, **options)(x), nn.BatchNorm(3, **options)(x))


def test_batch_norm_refuses_what_mlx_refuses():
    with pytest.raises(ValueError, match="more than one value"):
        BatchNorm(3)(mx.zeros((1, 3)))


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_relu_and_its_gradient(dtype):
    x = mx.array([-np.inf, -1.0, -0.0, 0.0, 2.0, np.inf]).astype(dtype)
    assert ReLU()(x).tolist() == ReLU().eval()(x).tolist() == [0, 0, 0, 0, 2, np.inf]
    x = rand(4, 5).astype(dtype)
    gradient = mx.grad(lambda x: (ReLU()(x) * 3).sum())(x)
    assert gradient.dtype == dtype
    assert np.array_equal(np.array(gradient.astype(mx.float32)), np.where(np.array(x.astype(mx.float32)) > 0, 3.0, 0.0))


def test_relu6_and_its_gradient():
    x = mx.array([-1.0, 0.0, 0.5, 5.5, 6.0, 7.0])
    layer = ReLU6()
    for mode in (layer.train(), layer.eval()):
        assert mode(x).tolist() == [0, 0, 0.5, 5.5, 6, 6]
    assert mx.grad(lambda x: layer.train()(x).sum())(x).tolist() == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("training", [True, False])
def test_silu_and_its_gradient_in_float64(training):
    """The CPU's own approximation, over all of its range."""
    layer = SiLU().train(training)
    x = np.concatenate([np.linspace(-60, 60, 100_001), [-1e30, -1e3, 1e3, 1e30]]).astype(np.float32)
    x64 = x.astype(np.float64)
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-x64))
    scale = np.maximum(1, np.abs(x64))
    assert (np.abs(np.array(layer(mx.array(x))) - x64 * sigmoid) / scale).max() < 3e-7
    slope = np.array(mx.grad(lambda x: layer(x).sum())(mx.array(x)))
    assert np.abs(slope - sigmoid * (1 + x64 * (1 - sigmoid))).max() < 2e-6
    assert np.isnan(layer(mx.array(np.nan)).item())
    assert layer(mx.array([1.0, -2.0], dtype=mx.float16)).dtype == mx.float16


def test_silu_second_derivative():
    x = rand(50)
    ours, theirs = (
        mx.grad(lambda x, f=f: (mx.grad(lambda x: f(x).sum())(x) ** 2).sum())(x)
        for f in (SiLU(), lambda x: x * mx.sigmoid(x))
    )
    close(ours, theirs)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (3, 2, 3, 1)])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_max_pool_and_its_gradient(shape, dtype):
    x = rand(*shape).astype(dtype)
    layer, theirs = MaxPool(), nn.MaxPool2d(2)
    for mode in (layer.train(), layer.eval()):
        close(mode(x), theirs(x), 0)
        cotangent = rand(*theirs(x).shape, seed=3).astype(dtype)
        (ours,), (wanted,) = (mx.vjp(f, [x], [cotangent])[1] for f in (mode, theirs))
        close(ours, wanted, 0 if dtype == mx.float32 else 1e-2)


def test_max_pool_shares_the_gradient_among_equals():
    x = mx.array([[1.0, 1.0, 5.0, 0.0], [0.0, 1.0, 5.0, 5.0]])[None, :, :, None]
    gradient = mx.grad(lambda x: (MaxPool()(x) * mx.array([3.0, 6.0])[None, None, :, None]).sum())(x)
    assert np.allclose(np.array(gradient)[0, :, :, 0], [[1, 1, 2, 0], [0, 1, 2, 2]])


def test_max_pool_second_derivative():
    x = rand(2, 5, 4, 3)
    ours, theirs = (
        mx.grad(lambda x, f=f: (mx.grad(lambda x: (f(x) ** 3).sum())(x) ** 2).sum())(x)
        for f in (MaxPool(), nn.MaxPool2d(2))
    )
    close(ours, theirs)
