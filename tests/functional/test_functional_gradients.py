"""Gradients against central differences of the definition in float64. The sums are linear in each argument, so the
differences are exact but for rounding."""

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx.functional import cond_conv2d, conv2d

from .reference import needs_compiler, numpy_cond_conv2d, numpy_conv2d


def central_differences(function, value, cotangent):
    """The gradient of <cotangent, function(value)>, entry by entry."""
    gradient = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        step = np.zeros_like(value)
        step[index] = 0.5
        gradient[index] = ((function(value + step) - function(value - step)) * cotangent).sum()
    return gradient


CASES = {
    "plain": {"padding": 1},
    "stride": {"stride": (2, 2), "padding": 1},
    "stride same": {"stride": (2, 3), "padding": "same"},
    "dilation": {"dilation": (2, 1), "padding": (2, 1)},
    "stride and dilation": {"stride": (2, 2), "dilation": (2, 2), "padding": ((2, 1), (0, 3))},
    "groups": {"groups": 2, "padding": 1},
    "depthwise": {"groups": 4, "stride": (2, 2), "padding": 1},
    "valid": {},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1)])
@pytest.mark.parametrize("strategy", ["auto", "unfold", "loop", "fold", "outputs"])
def test_all_gradients_of_cond_conv2d(case, kernel, strategy):
    options = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 5, 4))
    routing = rng.uniform(size=(2, 3))
    experts = rng.standard_normal((3, 4, *kernel, 4 // options.get("groups", 1)))
    bias = rng.standard_normal((3, 4))
    arguments = [x, routing, experts, bias]
    cotangent = rng.standard_normal(numpy_cond_conv2d(*arguments, **options).shape)
    _, gradients = mx.vjp(
        lambda *a: cond_conv2d(*a, strategy=strategy, **options),
        [mx.array(a.astype(np.float32)) for a in arguments],
        [mx.array(cotangent.astype(np.float32))],
    )
    for position, (name, got) in enumerate(zip(["x", "routing", "experts", "bias"], gradients, strict=True)):

        def at(value, position=position):
            return numpy_cond_conv2d(*arguments[:position], value, *arguments[position + 1 :], **options)

        wanted = central_differences(at, arguments[position], cotangent)
        assert np.abs(np.array(got) - wanted).max() <= 1e-4 * np.abs(wanted).max(), name


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_gradients_of_the_static_convolution(stride):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 6, 5, 3)), rng.standard_normal((4, 3, 3, 3))

    def definition(x, weight):
        return numpy_conv2d(x, np.repeat(weight[None], len(x), 0), stride=stride, padding=1)

    cotangent = rng.standard_normal(definition(x, weight).shape)
    _, (dx, dweight) = mx.vjp(
        lambda x, w: conv2d(x, w, stride=stride, padding=1),
        [mx.array(x.astype(np.float32)), mx.array(weight.astype(np.float32))],
        [mx.array(cotangent.astype(np.float32))],
    )
    wanted = central_differences(lambda value: definition(value, weight), x, cotangent)
    assert np.abs(np.array(dx) - wanted).max() <= 1e-4 * np.abs(wanted).max()
    wanted = central_differences(lambda value: definition(x, value), weight, cotangent)
    assert np.abs(np.array(dweight) - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_second_order_gradient():
    rng = np.random.default_rng(0)
    x, kernels = rng.standard_normal((2, 5, 5, 2)), rng.standard_normal((2, 3, 3, 3, 2))

    def squared(x, kernels):
        return (cond_conv2d(x, mx.eye(2), kernels, stride=2, padding=1) ** 2).sum()

    def norm_of_gradient(x, kernels):
        return (mx.grad(squared)(x, kernels) ** 2).sum()

    dx, dkernels = mx.grad(norm_of_gradient, argnums=(0, 1))(
        mx.array(x.astype(np.float32)), mx.array(kernels.astype(np.float32))
    )

    # f = |K x|², gradient g = 2 KᵀK x; K as a matrix by the definition.
    def norm(x, kernels):
        total = 0.0
        for n in range(2):
            matrix = np.stack(
                [
                    numpy_conv2d(unit.reshape(1, 5, 5, 2), kernels[n : n + 1], stride=(2, 2), padding=1).ravel()
                    for unit in np.eye(50)
                ],
                axis=1,
            )
            total += ((2 * matrix.T @ matrix @ x[n].ravel()) ** 2).sum()
        return total

    for got, value, at in ((dx, x, lambda v: norm(v, kernels)), (dkernels, kernels, lambda v: norm(x, v))):
        for index in [(0,) * value.ndim, tuple(s - 1 for s in value.shape), tuple(s // 2 for s in value.shape)]:
            step = np.zeros_like(value)
            step[index] = 1e-4
            wanted = (at(value + step) - at(value - step)) / 2e-4
            assert abs(np.array(got)[index] - wanted) <= 1e-3 * max(1.0, abs(wanted))


@needs_compiler
def test_checkpoint_and_compile_leave_gradients_alone():
    rng = np.random.default_rng(0)
    x = mx.array(rng.standard_normal((2, 6, 6, 4)).astype(np.float32))
    routing = mx.array(rng.uniform(size=(2, 3)).astype(np.float32))
    experts = mx.array(rng.standard_normal((3, 4, 3, 3, 4)).astype(np.float32))

    def loss(x, routing, experts):
        return mx.sin(cond_conv2d(x, routing, experts, stride=2, padding=1)).sum()

    plain = mx.grad(loss, argnums=(0, 1, 2))(x, routing, experts)
    for other in (
        mx.compile(mx.grad(loss, argnums=(0, 1, 2))),
        mx.grad(mx.checkpoint(loss), argnums=(0, 1, 2)),
    ):
        for a, b in zip(plain, other(x, routing, experts), strict=True):
            assert np.allclose(np.array(a), np.array(b), atol=1e-5)
