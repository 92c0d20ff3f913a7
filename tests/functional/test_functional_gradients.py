"""Gradients against central differences of the definition in float64. The sums are linear in each argument, so the
differences are exact but for rounding."""

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx.functional import cond_conv2d, conv2d, conv2d_per_example

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
@pytest.mark.parametrize("strategy", ["auto", "unfold", "rows", "loop", "fold", "outputs"])
# With fewer experts than examples another way is taken to the gradient of x.
@pytest.mark.parametrize(("n", "e"), [(2, 3), (3, 2)])
def test_all_gradients_of_cond_conv2d(case, kernel, strategy, n, e):
    options = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 6, 5, 4))
    routing = rng.uniform(size=(n, e))
    experts = rng.standard_normal((e, 4, *kernel, 4 // options.get("groups", 1)))
    bias = rng.standard_normal((e, 4))
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


def by_routing(x, kernels):
    return cond_conv2d(x, mx.eye(2), kernels, stride=2, padding=1)


def by_example(x, kernels):
    return conv2d_per_example(x, kernels, stride=2, padding=1)


def by_fewer_experts_than_examples(x, kernels):
    routing_weights = mx.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    return cond_conv2d(mx.concatenate([x, mx.zeros_like(x[:1])]), routing_weights, kernels, stride=2, padding=1)


@pytest.mark.parametrize("way", [by_routing, by_example, by_fewer_experts_than_examples])
def test_second_order_gradient(way):
    rng = np.random.default_rng(0)
    x, kernels = rng.standard_normal((2, 5, 5, 2)), rng.standard_normal((2, 3, 3, 3, 2))

    def squared(x, kernels):
        return (way(x, kernels) ** 2).sum()

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


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("strategy", ["auto", "unfold", "rows", "loop", "fold", "outputs"])
def test_gradients_in_half_precision_are_near_those_in_single(dtype, groups, strategy):
    rng = np.random.default_rng(0)
    shapes = [(5, 8, 8, 8), (5, 4), (4, 8, 3, 3, 8 // groups), (5, 4, 4, 8)]
    arrays = [mx.array(rng.standard_normal(shape)).astype(dtype) for shape in shapes]

    def gradients(strategy, arrays):
        def conv(*a):
            return cond_conv2d(*a, stride=2, padding=1, groups=groups, strategy=strategy)

        return mx.vjp(conv, arrays[:3], arrays[3:])[1]

    wanted = gradients("loop", [array.astype(mx.float32) for array in arrays])
    for one, other in zip(gradients(strategy, arrays), wanted, strict=True):
        assert one.dtype == dtype
        difference = mx.abs(one.astype(mx.float32) - other).max().item()
        assert difference <= {mx.float16: 5e-3, mx.bfloat16: 4e-2}[dtype] * mx.abs(other).max().item()


def test_no_patches_are_kept_for_the_backward_pass():
    """A layer more costs its output and the gradient of that, not nine times as much."""
    x, routing_weights = mx.random.normal((8, 32, 32, 16)), mx.random.uniform(shape=(8, 2))

    def peak(layers):
        experts = [mx.random.normal((2, 16, 3, 3, 16)) / 12 for _ in range(layers)]
        mx.eval(x, routing_weights, experts)

        def loss(experts):
            y = x
            for weight in experts:
                y = cond_conv2d(y, routing_weights, weight, padding=1)
            return y.sum()

        mx.reset_peak_memory()
        mx.eval(mx.grad(loss)(experts))
        return mx.get_peak_memory()

    # The first few hold what MLX computes ahead.
    assert peak(48) - peak(16) < 32 * 4 * x.nbytes


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
