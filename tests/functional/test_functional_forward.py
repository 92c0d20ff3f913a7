"""Every strategy gives what one `mx.conv2d` an example gives."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condconv_mlx.functional import STRATEGIES, cond_conv2d, conv2d, conv2d_per_example, mix_experts

from .reference import loop_conv2d, needs_compiler, numpy_conv2d

DENSE = ["auto", "unfold", "rows", "loop", "fold"]
TOLERANCE = {mx.float32: 2e-5, mx.float16: 4e-3, mx.bfloat16: 3e-2}


def close(got, wanted, tolerance=2e-5):
    got, wanted = (np.array(a.astype(mx.float32)) if isinstance(a, mx.array) else a for a in (got, wanted))
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max())


def arrays(n, size, channels, out, kernel, groups=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *size, channels)).astype(np.float32)
    kernels = rng.standard_normal((n, out, *kernel, channels // groups)).astype(np.float32)
    bias = rng.standard_normal((n, out)).astype(np.float32)
    return mx.array(x), mx.array(kernels), mx.array(bias)


@pytest.mark.parametrize("padding", [0, 1, (2, 1), ((0, 1), (2, 0)), "valid", "same"])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("strategy", DENSE)
def test_strides_paddings_dilation_groups(padding, stride, dilation, groups, strategy):
    x, kernels, bias = arrays(3, (9, 7), 4, 6, (3, 3), groups)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    close(conv2d_per_example(x, kernels, bias, strategy=strategy, **options), loop_conv2d(x, kernels, bias, **options))


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (5, 5), (7, 7), (1, 7), (5, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize("n", [1, 33])
@pytest.mark.parametrize("strategy", DENSE)
def test_kernel_sizes_and_batch_sizes(kernel, stride, n, strategy):
    x, kernels, bias = arrays(n, (11, 8), 5, 7, kernel)
    options = {"stride": stride, "padding": "same"}
    close(conv2d_per_example(x, kernels, bias, strategy=strategy, **options), loop_conv2d(x, kernels, bias, **options))


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (7, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize("padding", [1, "same", ((0, 1), (2, 0))])
@pytest.mark.parametrize("strategy", ["auto", "taps", "shift", "unfold", "rows", "loop", "fold"])
def test_depthwise(kernel, stride, padding, strategy):
    x, kernels, bias = arrays(4, (9, 8), 6, 6, kernel, groups=6)
    options = {"stride": stride, "padding": padding, "groups": 6}
    close(conv2d_per_example(x, kernels, bias, strategy=strategy, **options), loop_conv2d(x, kernels, bias, **options))


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("experts", [1, 4, 8])
@pytest.mark.parametrize("strategy", ["auto", "outputs"])
def test_dtypes_and_numbers_of_experts(dtype, groups, experts, strategy):
    rng = np.random.default_rng(1)
    x = mx.array(rng.standard_normal((5, 8, 8, 8))).astype(dtype)
    weight = mx.array(rng.standard_normal((experts, 8, 3, 3, 8 // groups)) / 4).astype(dtype)
    bias = mx.array(rng.standard_normal((experts, 8))).astype(dtype)
    routing = mx.array(rng.uniform(size=(5, experts))).astype(dtype)
    output = cond_conv2d(x, routing, weight, bias, padding=1, groups=groups, strategy=strategy)
    assert output.dtype == dtype
    x, weight, bias, routing = (a.astype(mx.float32) for a in (x, weight, bias, routing))
    kernels = mx.stack([sum(routing[n, e] * weight[e] for e in range(experts)) for n in range(5)])
    biases = mx.stack([sum(routing[n, e] * bias[e] for e in range(experts)) for n in range(5)])
    close(output, loop_conv2d(x, kernels, biases, padding=1, groups=groups), TOLERANCE[dtype])


def test_against_the_definition_in_float64():
    x, kernels, _ = arrays(2, (7, 9), 4, 6, (3, 5), groups=2)
    options = {"stride": (2, 1), "padding": ((1, 0), (2, 3)), "dilation": (2, 1), "groups": 2}
    wanted = numpy_conv2d(np.array(x, np.float64), np.array(kernels, np.float64), **options)
    close(conv2d_per_example(x, kernels, **options), wanted.astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 4),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    groups=st.integers(1, 3),
    depth=st.integers(1, 4),
    out=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
    seed=st.integers(0, 100),
)
def test_random_shapes_with_gradients(n, size, groups, depth, out, kernel, stride, dilation, padding, seed):
    reach = [(kernel[a] - 1) * dilation[a] + 1 for a in (0, 1)]
    padding = tuple((before, max(after, reach[a] - size[a] - before)) for a, (before, after) in enumerate(padding))
    x, kernels, _ = arrays(n, size, groups * depth, groups * out, kernel, groups, seed)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    wanted = loop_conv2d(x, kernels, **options)
    cotangent = mx.array(np.random.default_rng(seed).standard_normal(wanted.shape).astype(np.float32))
    _, wanted_gradients = mx.vjp(lambda x, k: loop_conv2d(x, k, **options), [x, kernels], [cotangent])
    for strategy in ["unfold", "rows", "fold", *(["taps", "shift"] if depth == out == 1 else [])]:
        output, gradients = mx.vjp(
            lambda x, k, s=strategy: conv2d_per_example(x, k, strategy=s, **options), [x, kernels], [cotangent]
        )
        close(output[0], wanted)
        for got, want in zip(gradients, wanted_gradients, strict=True):
            close(got, want, 1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, "same"])
def test_static_convolution(stride, padding):
    x, kernels, _ = arrays(3, (9, 8), 4, 6, (3, 3))
    wanted = loop_conv2d(x, mx.repeat(kernels[:1], 3, 0), stride=(stride, stride), padding=padding)
    close(conv2d(x, kernels[0], stride=(stride, stride), padding=padding), wanted)


def test_empty_batch():
    assert conv2d_per_example(mx.zeros((0, 5, 5, 2)), mx.zeros((0, 3, 3, 3, 2)), padding=1).shape == (0, 5, 5, 3)


@needs_compiler
def test_compiled_is_the_same():
    x, kernels, bias = arrays(2, (8, 8), 4, 4, (3, 3))
    function = mx.compile(lambda x, k, b: conv2d_per_example(x, k, b, stride=2, padding=1))
    close(function(x, kernels, bias), loop_conv2d(x, kernels, bias, stride=(2, 2), padding=1))


def test_mix_experts_is_the_weighted_sum():
    rng = np.random.default_rng(0)
    routing, experts = rng.uniform(size=(5, 3)).astype(np.float32), rng.standard_normal((3, 4, 2, 2, 6), np.float32)
    got = mix_experts(mx.array(routing), mx.array(experts))
    close(got, np.einsum("ne,e...->n...", routing, experts))


X, K = mx.zeros((2, 5, 5, 4)), mx.zeros((2, 6, 3, 3, 4))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: conv2d_per_example(X[0], K), r"\(N, H, W, Cin\), got shape \(5, 5, 4\)"),
        (lambda: conv2d_per_example(X, K[0]), r"N = 2, got shape \(6, 3, 3, 4\)"),
        (lambda: conv2d_per_example(X, K[:1]), r"N = 2, got shape \(1,"),
        (lambda: conv2d_per_example(X, K[..., :3]), "4 channels in and 6 out do not fit"),
        (lambda: conv2d_per_example(X, K, groups=2), "must be 4"),
        (lambda: conv2d_per_example(X, K.astype(mx.float16)), "same floating dtype"),
        (lambda: conv2d_per_example(X.astype(mx.int32), K.astype(mx.int32)), "floating"),
        (lambda: conv2d_per_example(X, K, mx.zeros((2, 5))), r"\(2, 6\), got shape \(2, 5\)"),
        (lambda: conv2d_per_example(X, K, stride=0), "stride must be an integer >= 1"),
        (lambda: conv2d_per_example(X, K, stride=(1, 2, 3)), "stride must be"),
        (lambda: conv2d_per_example(X, K, padding=-1), "padding must be"),
        (lambda: conv2d_per_example(X, K, padding="full"), '"valid" or "same", got "full"'),
        (lambda: conv2d_per_example(X, K, padding=((1, 1),)), "two pairs"),
        (lambda: conv2d_per_example(X, K, dilation=3), r"needs an input of at least \(7, 7\), got \(5, 5\)"),
        (lambda: conv2d_per_example(X, K, strategy="magic"), 'got "magic"'),
        (lambda: conv2d_per_example(X, K, strategy="shift"), "depthwise"),
        (lambda: cond_conv2d(X, mx.zeros((2, 3)), mx.zeros((4, 6, 3, 3, 4))), r"\(2, 4\), got shape \(2, 3\)"),
        (lambda: cond_conv2d(X, mx.zeros((2, 4)), mx.zeros((6, 3, 3, 4))), "experts must be"),
        (lambda: cond_conv2d(X[0], mx.zeros((2, 4)), mx.zeros((4, 6, 3, 3, 4))), "x must be"),
        (lambda: cond_conv2d(X, mx.zeros((2, 4)), mx.zeros((4, 6, 3, 3, 4)), mx.zeros((6,))), "bias must be"),
        (lambda: cond_conv2d(X, mx.zeros((2, 4)), mx.zeros((4, 6, 3, 3, 3)), strategy="outputs"), "do not fit"),
        (lambda: mix_experts(mx.zeros((2,)), mx.zeros((2, 3))), r"\(N, E\), got shape \(2,\)"),
        (lambda: mix_experts(mx.zeros((2, 4)), mx.zeros((3, 3))), "weigh 4 experts"),
    ],
)
def test_bad_arguments_say_what_was_given_and_wanted(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_every_strategy_is_tested_here():
    assert set(STRATEGIES) == {"unfold", "rows", "taps", "shift", "loop", "fold"}


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_exportable_gives_the_same_and_can_be_exported(tmp_path, groups):
    x, kernels, bias = arrays(2, (8, 7), 4, 4, (3, 3), groups)
    options = {"stride": 2, "padding": 1, "groups": groups}

    def plain(x, kernels, bias):
        return conv2d_per_example(x, kernels, bias, exportable=True, **options)

    cotangent = mx.ones((2, 4, 4, 4))
    for ours, theirs in zip(
        mx.vjp(lambda *a: conv2d_per_example(*a, **options), [x, kernels, bias], [cotangent]),
        mx.vjp(plain, [x, kernels, bias], [cotangent]),
        strict=True,
    ):
        for one, other in zip(ours, theirs, strict=True):
            close(one, other)
    path = str(tmp_path / "conv.mlxfn")
    mx.export_function(path, plain, x, kernels, bias)
    close(mx.import_function(path)(x, kernels, bias)[0], plain(x, kernels, bias))
