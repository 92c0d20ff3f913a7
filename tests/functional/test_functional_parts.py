"""Convolutions computed in parts on several streams: the same numbers, always, and only where that was asked for."""

import threading
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from condconv_mlx import cpu
from condconv_mlx.functional import cond_conv2d, conv2d, conv2d_per_example, gradients, silu, splitting, static, streams
from condconv_mlx.functional.streams import at_once, cut, in_one_piece
from tests.functional.reference import needs_compiler

pytestmark = pytest.mark.skipif(mx.default_device() != mx.cpu, reason="a GPU computes in one piece")


@pytest.fixture(params=[2, 3])
def count(request, monkeypatch):
    """Everything that can be cut is cut into so many parts."""
    for module, name in ((splitting, "FORWARD"), (gradients, "GRADIENTS"), (static, "SILU"), (static, "FORWARD")):
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(cpu, "parts", lambda: request.param)
    return request.param


@pytest.fixture
def cuts(monkeypatch):
    """How many calls there were at once, each time."""
    numbers = []

    def counted(calls):
        numbers.append(len(calls))
        return at_once(calls)

    for module in (splitting, gradients, streams):
        monkeypatch.setattr(module, "at_once", counted)
    return numbers


def whole(function, *arrays):
    with in_one_piece():
        result = function(*arrays)
        mx.eval(result)
    return result


def flat(value):
    return [item for part in value for item in flat(part)] if isinstance(value, list | tuple) else [value]


def same(one, other, tolerance=1e-5):
    for a, b in zip(flat(one), flat(other), strict=True):
        assert a.shape == b.shape
        difference, largest = mx.abs(a - b).max().item(), mx.abs(b).max().item()
        assert difference <= tolerance * max(largest, 1e-3)


def problem(n, size, cin, out, kernel, groups=1, e=3):
    rng = np.random.default_rng(0)
    shapes = [(n, *size, cin), (n, e), (e, out, *kernel, cin // groups)]
    return [mx.array(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]


CASES = {
    "3x3": ((3, 3), 1, {"padding": 1}),
    "rows of padding alone": ((3, 3), 1, {"padding": ((4, 3), (0, 2))}),
    "strided": ((3, 3), 1, {"stride": 2, "padding": "same"}),
    "stride beyond the kernel": ((2, 2), 1, {"stride": (3, 4)}),
    "dilated": ((2, 3), 1, {"dilation": (3, 2), "padding": (2, 1)}),
    "pointwise": ((1, 1), 1, {}),
    "strided pointwise": ((1, 1), 1, {"stride": 2}),
    "groups": ((3, 2), 2, {"padding": 1}),
    "depthwise": ((3, 3), 4, {"padding": 1}),
    "strided depthwise": ((5, 3), 4, {"stride": (2, 3), "padding": "same"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_output_and_gradients_are_those_of_one_piece(name, n, count, cuts):
    kernel, groups, options = CASES[name]
    arrays = problem(n, (9, 7), 4, 4, kernel, groups)
    # Each depends on all of its neighbours, so that a wrong cotangent shows.
    for strategy in ("auto", "unfold", "rows", "loop", *(["taps", "shift"] if groups == 4 else [])):
        options = options | {"groups": groups, "strategy": strategy}

        def both(*a, options=options):
            output = cond_conv2d(*a, **options)
            return output, *mx.vjp(lambda *b: cond_conv2d(*b, **options), list(a), [mx.cos(output)])[1]

        def given(x, kernels, options=options):
            output = conv2d_per_example(x, kernels, **options)
            return output, *mx.vjp(lambda *b: conv2d_per_example(*b, **options), [x, kernels], [mx.cos(output)])[1]

        def plain(*a, options=options):
            return cond_conv2d(*a, **options, exportable=True)

        x, kernels = arrays[0], mx.random.normal((n, *arrays[2].shape[1:]), key=mx.random.key(0))
        for function, inputs in ((both, arrays), (plain, arrays), (given, [x, kernels])):
            cuts.clear()
            same(function(*inputs), whole(function, *inputs))
            assert strategy == "loop" or cuts
            assert all(1 < cut <= count for cut in cuts)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [1, 5])
def test_static_convolution_and_silu(name, n, count, cuts):
    kernel, groups, options = CASES[name]
    x, _, (weight, *_) = problem(n, (9, 7), 4, 4, kernel, groups)

    def value(x, weight, exportable=False):
        return silu(conv2d(x, weight, **options, groups=groups, exportable=exportable), exportable)

    def both(x, weight):
        output = value(x, weight)
        return output, *mx.vjp(value, [x, weight], [mx.cos(output)])[1]

    def plain(x, weight):
        return value(x, weight, exportable=True)

    for function in (both, plain):
        if groups == 2:
            continue  # MLX's own
        cuts.clear()
        same(function(x, weight), whole(function, x, weight))
        assert cuts


class Deep(nn.Module):
    """Many layers, each of several streams, and nothing evaluated in between."""

    def __init__(self, layers=5):
        super().__init__()
        self.weights = [0.3 * mx.random.normal((3, 8, 3, 3, 8), key=mx.random.key(i)) for i in range(layers)]
        self.depthwise = [0.3 * mx.random.normal((3, 8, 3, 3, 1), key=mx.random.key(50 + i)) for i in range(layers)]

    def __call__(self, x, routing_weights):
        for one, other in zip(self.weights, self.depthwise, strict=True):
            x = x + silu(cond_conv2d(x, routing_weights, one, padding=1))
            x = x + silu(cond_conv2d(x, routing_weights, other, padding=1, groups=8))
        return x


def loss(model, x, routing_weights):
    return mx.square(model(x, routing_weights)).mean()


@pytest.mark.parametrize("n", [1, 6])
def test_deep_graphs_are_right_and_the_same_to_the_bit_every_time(n, count):
    model, x, routing_weights = Deep(), mx.random.normal((n, 12, 12, 8)), mx.random.uniform(shape=(n, 3))
    step = nn.value_and_grad(model, loss)

    def once(*inputs):
        value, gradients = step(model, *inputs)
        return [value, *gradients["weights"], *gradients["depthwise"]]

    first = once(x, routing_weights)
    mx.eval(first)
    same(first, whole(once, x, routing_weights), 1e-3)
    for _ in range(10):
        # Nothing is kept, so that memory is used again while others may still read it.
        again = once(x, routing_weights)
        assert all(mx.array_equal(a, b).item() for a, b in zip(again, first, strict=True))


def test_every_thread_has_streams_of_its_own(count):
    model, x, routing_weights = Deep(4), mx.random.normal((4, 12, 12, 8)), mx.random.uniform(shape=(4, 3))
    wanted = mx.grad(lambda x: loss(model, x, routing_weights))(x)
    mx.eval(wanted, model.parameters())
    results = {}

    def work(name):
        for _ in range(5):
            got = mx.grad(lambda x: loss(model, x, routing_weights))(x)
            results.setdefault(name, []).append(np.array(got))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for arrays in results.values():
        assert len(arrays) == 5
        assert all(np.array_equal(array, np.array(wanted)) for array in arrays)


@needs_compiler
def test_checkpoint_compile_and_second_derivatives(count):
    x, routing_weights, experts = problem(4, (6, 5), 4, 4, (3, 3))

    def value(x, routing_weights, experts):
        return mx.sin(cond_conv2d(x, routing_weights, experts, stride=2, padding=1)).sum()

    def slope(x, routing_weights, experts):
        first = mx.grad(value, argnums=(0, 1, 2))(x, routing_weights, experts)
        return sum((array * array).sum() for array in first)

    for function in (value, slope):
        gradient = mx.grad(function, argnums=(0, 1, 2))
        wanted = whole(gradient, x, routing_weights, experts)
        same(gradient(x, routing_weights, experts), wanted, 1e-4)
        same(mx.grad(mx.checkpoint(function), argnums=(0, 1, 2))(x, routing_weights, experts), wanted, 1e-4)
    gradient = mx.grad(value, argnums=(0, 1, 2))
    arrays = (x, routing_weights, experts)
    same(mx.compile(gradient)(*arrays), whole(gradient, *arrays), 1e-4)


def test_an_exported_function_can_be_in_one_piece(count, tmp_path):
    x, routing_weights, experts = problem(4, (6, 5), 4, 4, (3, 3))

    def function(*arrays):
        return cond_conv2d(*arrays, padding=1, exportable=True)

    wanted = whole(function, x, routing_weights, experts)
    paths = [str(tmp_path / name) for name in ("parts.mlxfn", "whole.mlxfn", "single.mlxfn")]
    mx.export_function(paths[0], function, x, routing_weights, experts)
    with in_one_piece():
        mx.export_function(paths[1], function, x, routing_weights, experts)
    for path in paths[:2]:
        same(mx.import_function(path)(x, routing_weights, experts)[0], wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "parts", lambda: 1)
        mx.export_function(paths[2], function, x, routing_weights, experts)
    sizes = [Path(path).stat().st_size for path in paths]
    assert sizes[1] == sizes[2] < sizes[0]


def test_small_work_and_other_settings_stay_whole(monkeypatch):
    monkeypatch.setattr(cpu, "parts", lambda: 2)
    assert [streams.parts(work, 10) for work in (9, 10, 11)] == [1, 2, 2]
    with in_one_piece():
        assert streams.parts(1e9, 10) == 1
    assert streams.parts(1e9, 10) == 2


def test_cuts_cover_everything_evenly():
    for size, number in ((7, 3), (2, 2), (16, 4), (5, 4)):
        pieces = cut(size, number)
        assert [i for piece in pieces for i in range(size)[piece]] == list(range(size))
        lengths = [piece.stop - piece.start for piece in pieces]
        assert len(pieces) == number
        assert max(lengths) - min(lengths) <= 1
