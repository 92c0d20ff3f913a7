"""Traces: what the routers of any model did, and what-ifs."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from condconv_mlx import CondConv1d, CondConv2d, CondLinear, Router, create_model
from condconv_mlx.explain import experts_of, mixed_kernel, trace


class Mine(nn.Module):
    """A user's model: a shared router, one of a layer's own, a layer in a list."""

    def __init__(self):
        super().__init__()
        self.shared = Router(4, 3)
        self.body = [CondConv2d(4, 4, 3, 3, padding=1, router=False), CondConv2d(4, 4, 1, 3, router=False)]
        self.head = CondLinear(4, 5, 2)

    def __call__(self, x):
        routing = self.shared(x)
        for layer in self.body:
            x = layer(x, routing)
        return self.head(x.mean(axis=(1, 2)))


def image(n=3, size=6, channels=4):
    return np.random.default_rng(0).standard_normal((n, size, size, channels)).astype(np.float32)


def test_names_layers_and_weights():
    model, x = Mine(), image()
    result = trace(model, x)
    assert [(r.name, r.layers) for r in result.routers] == [
        ("shared", ["body.0", "body.1"]),
        ("head.router", ["head"]),
    ]
    assert np.allclose(result.routers[0].weights, np.array(model.shared(mx.array(x))), atol=1e-6)
    assert np.allclose(result.output, np.array(model(mx.array(x))), atol=1e-6)
    assert all(isinstance(a, np.ndarray) for a in (result.output, *(r.weights for r in result.routers)))


def test_override_is_what_the_layers_use():
    model, x = Mine(), image()
    given = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    result = trace(model, x, {"shared": given})
    assert np.array_equal(result.routers[0].weights, given)
    y = mx.concatenate(
        [
            mx.conv2d(mx.conv2d(mx.array(x[n : n + 1]), model.body[0].weight[n], padding=1), model.body[1].weight[n])
            for n in range(3)
        ]
    )
    assert np.allclose(result.output, np.array(model.head(y.mean(axis=(1, 2)))), atol=1e-5)
    alone = trace(model, x, {"shared": given[0]})
    assert np.array_equal(alone.routers[0].weights, np.repeat(given[:1], 3, 0))


def test_leaves_the_model_as_it_was():
    model = create_model("condconv_small", width=8)
    model.train()
    before = np.array(model.norm.running_mean)
    trace(model, image(2, 32, 3))
    assert model.training and model.blocks[1].router.training
    assert np.array_equal(before, np.array(model.norm.running_mean))
    model.eval()
    trace(model, image(2, 32, 3))
    assert not model.training


def test_errors_name_the_router_and_do_not_stick():
    model = Mine()
    with pytest.raises(ValueError, match="no router is called 'other'"):
        trace(model, image(), {"other": np.ones(3)})
    with pytest.raises(ValueError, match=r"\(3,\) or \(N, E\) = \(3, 3\), got shape \(4,\)"):
        trace(model, image(), {"shared": np.ones(4)})
    assert len(trace(model, image()).routers) == 2


def test_mixing_by_the_trace_gives_the_kernel_used():
    model, x = Mine(), image()
    routing = trace(model, x).routers[0].weights
    experts = experts_of(model, "body.0")
    assert experts.shape == (3, 4, 3, 3, 4)
    kernels = mixed_kernel(experts, routing)
    wanted = np.array(model.body[0](mx.array(x), mx.array(routing)))
    for n in range(3):
        alone = mx.conv2d(mx.array(x[n : n + 1]), mx.array(kernels[n].astype(np.float32)), padding=1)
        bias = routing[n] @ np.array(model.body[0].bias)
        assert np.allclose(np.array(alone) + bias, wanted[n], atol=1e-5)
    assert mixed_kernel(experts, routing[0]).shape == (4, 3, 3, 4)


def test_experts_of_every_kind_of_layer():
    class All(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = CondConv1d(4, 6, 3, 2), CondLinear(5, 3, 2), nn.Linear(2, 2)

    assert experts_of(All(), "a").shape == (2, 6, 3, 4)
    assert experts_of(All(), "b").shape == (2, 3, 5)
    for name in ("c", "d"):
        with pytest.raises(ValueError, match="no CondConv layer called"):
            experts_of(All(), name)
    with pytest.raises(ValueError, match="E = 2"):
        mixed_kernel(experts_of(All(), "a"), np.ones(3))
