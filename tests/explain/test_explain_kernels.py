"""The mixture of a layer's kernels, and what its filters answer, against plain loops."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from condconv_mlx import CondConv1d, CondConv2d, CondLinear, Router
from condconv_mlx.explain import build_up, experts_of, mixture, relative_change, responses, similarity, trace


class Net(nn.Module):
    """A strided convolution that shares a router with a depthwise one, and a classifier with its own."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router(3, 4)
        self.layers = [
            CondConv2d(3, 6, 3, 4, stride=2, padding=1, router=False),
            CondConv2d(6, 6, (1, 3), 4, groups=6, bias=False, router=False),
        ]
        self.line = CondConv1d(6, 5, 3, 4)
        self.classifier = CondLinear(5, 7, 4)

    def __call__(self, x: mx.array) -> mx.array:
        routing = self.router(x)
        for layer in self.layers:
            x = mx.maximum(layer(x, routing), 0)
        return self.classifier(self.line(x.mean(axis=1)).mean(axis=1))


@pytest.fixture
def net() -> Any:
    mx.random.seed(0)
    model = Net()
    for layer in (model.layers[0], model.line, model.classifier):
        layer.bias = mx.random.normal(layer.bias.shape)
    return model.eval()


X = np.random.default_rng(1).standard_normal((1, 9, 11, 3)).astype(np.float32)
WEIGHTS = np.array([0.9, 0.1, 0.4, 0.7], np.float32)


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    """(H, W, C) with (O, kh, kw, C / groups): one multiplication at a time."""
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    outputs, kh, kw, inputs = kernel.shape
    height, width = ((size - k) // stride + 1 for size, k in zip(x.shape[:2], (kh, kw), strict=True))
    y = np.zeros((height, width, outputs))
    for o in range(outputs):
        first = o // (outputs // groups) * inputs
        for i in range(height):
            for j in range(width):
                patch = x[i * stride : i * stride + kh, j * stride : j * stride + kw, first : first + inputs]
                y[i, j, o] = bias[o] + np.sum(patch.astype(np.float64) * kernel[o])
    return y


@pytest.mark.parametrize("layer, channel", [("layers.0", 4), ("layers.1", 2)])
def test_responses_are_those_of_each_expert_and_of_their_mixture(net: Any, layer: str, channel: int) -> None:
    module = dict(net.named_modules())[layer]
    given = X[0]
    if layer == "layers.1":
        routing = trace(net, X).routers[0].weights
        given = np.maximum(np.array(net.layers[0](mx.array(X), mx.array(routing))), 0)[0]
    kernels = np.array(module.weight, np.float64)
    biases = np.array(module.bias, np.float64) if "bias" in module else np.zeros(kernels.shape[:2])
    geometry = (module.stride[0], module.padding if layer == "layers.0" else 0, module.groups)
    each = np.stack([convolve(given, kernel, bias, *geometry) for kernel, bias in zip(kernels, biases, strict=True)])
    mixed = convolve(given, np.tensordot(WEIGHTS, kernels, 1), WEIGHTS @ biases, *geometry)
    before = [name for name, _ in net.named_modules()]
    got = responses(net, X, layer, channel, WEIGHTS)
    np.testing.assert_allclose(got.experts, each[..., channel], atol=1e-5)
    np.testing.assert_allclose(got.mixed, mixed[..., channel], atol=1e-5)
    np.testing.assert_allclose(got.summed, np.tensordot(WEIGHTS, each[..., channel], 1), atol=1e-5)
    assert 0 <= got.disagreement < 1e-5
    assert [name for name, _ in net.named_modules()] == before


@pytest.mark.parametrize("layer, shape", [("line", (1, 2)), ("classifier", (1, 1))])
def test_lines_and_single_numbers_are_maps_too(net: Any, layer: str, shape: tuple[int, int]) -> None:
    got = responses(net, X, layer, 3, WEIGHTS)
    assert got.experts.shape == (4, *shape) and got.mixed.shape == got.summed.shape == shape
    np.testing.assert_allclose(got.mixed, np.tensordot(WEIGHTS, got.experts, 1), atol=1e-5)
    own = trace(net, X).routers[-1].weights[0]
    if layer == "classifier":
        np.testing.assert_allclose(responses(net, X, layer, 3, own).mixed, trace(net, X).output[0, 3], atol=1e-5)


def test_a_disagreement_would_show(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from condconv_mlx.explain import responses as ours

    module = __import__("sys").modules[ours.__module__]
    mix = module.mix_experts
    monkeypatch.setattr(module, "mix_experts", lambda weights, experts: 1.01 * mix(weights, experts))
    assert responses(net, X, "layers.0", 0, WEIGHTS).disagreement == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(
    "layer, channel, weights",
    [("router", 0, WEIGHTS), ("nowhere", 0, WEIGHTS), ("layers.0", 6, WEIGHTS), ("layers.0", 0, WEIGHTS[:3])],
)
def test_wrong_questions_are_refused(net: Any, layer: str, channel: int, weights: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\[responses\]"):
        responses(net, X, layer, channel, weights)


def test_mixture_beside_the_usual(net: Any) -> None:
    usual = np.array([0.5, 0.5, 0.5, 0.5], np.float32)
    got = mixture(net, "layers.0", WEIGHTS, usual)
    experts = experts_of(net, "layers.0")
    mixed = sum(w * kernel for w, kernel in zip(WEIGHTS, experts, strict=True))
    mean = 0.5 * experts.sum(axis=0)
    np.testing.assert_allclose(got.mixed, mixed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.usual, mean, rtol=1e-5, atol=1e-6)
    for o in range(6):
        length = np.sqrt((mean[o] ** 2).sum())
        assert got.change[o] == pytest.approx(np.sqrt(((mixed[o] - mean[o]) ** 2).sum()) / length, rel=1e-4)
    assert relative_change(mean, mean).max() == 0


def test_it_builds_up_to_the_mixture() -> None:
    experts = np.random.default_rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32)
    order, sums = build_up(experts, WEIGHTS)
    assert order.tolist() == [0, 3, 2, 1]
    np.testing.assert_allclose(sums[0], 0.9 * experts[0], rtol=1e-6)
    np.testing.assert_allclose(sums[1], 0.9 * experts[0] + 0.7 * experts[3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums[-1], np.tensordot(WEIGHTS, experts, 1), rtol=1e-5, atol=1e-6)


def test_similarity_is_of_direction() -> None:
    a = np.array([[1.0, 2.0], [0.0, 2.0]])
    assert similarity(a, 3 * a) == pytest.approx(1)
    assert similarity(a, -a) == pytest.approx(-1)
    assert similarity(a, np.array([[2.0, -1.0], [5.0, 0.0]])) == pytest.approx(0)
