"""Interventions: each against the same forward pass made one at a time."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from condconv_mlx import create_model
from condconv_mlx.explain import (
    mean_routing,
    one_hot,
    scaled,
    shuffled,
    silence,
    silencing,
    trace,
    uniform,
    variants,
)

OWN = np.array([0.8, 0.1, 0.3, 0.4], np.float32)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Untrained, but with routers that tell images apart, so that an intervention is felt further on."""
    mx.random.seed(3)
    network = create_model("condconv_small", width=4, num_experts=4)
    for name, module in network.named_modules():
        if name.endswith("router"):
            module.linear.weight = 3 * mx.random.normal(module.linear.weight.shape)
    mx.eval(network.parameters())
    return network


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)


def test_weights_of_each_kind() -> None:
    np.testing.assert_array_equal(silence(4, 2, 0), [0, np.nan, 0, np.nan])
    np.testing.assert_allclose(uniform(OWN), [0.4] * 4, rtol=1e-6)
    np.testing.assert_allclose(one_hot(OWN, 1), [0, 1.6, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(scaled(OWN, 2), [1, 0.2, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(mean_routing(np.stack([OWN, 0 * OWN])), OWN / 2)
    rows = np.stack([OWN, OWN[::-1]])
    np.testing.assert_allclose(one_hot(rows, 0)[:, 0], rows.sum(axis=1))
    np.testing.assert_allclose(uniform(rows)[1], uniform(OWN))


def test_shuffled_is_another_order_of_the_same_weights() -> None:
    orders = {tuple(shuffled(OWN, seed).tolist()) for seed in range(40)}
    assert len(orders) > 5 and tuple(OWN.tolist()) not in orders
    assert all(sorted(order) == sorted(OWN.tolist()) for order in orders)
    np.testing.assert_array_equal(shuffled(OWN, 7), shuffled(OWN, 7))
    np.testing.assert_array_equal(shuffled(OWN[:1], 0), OWN[:1])


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: silence(4, 4), r"\[silence\] experts must be from 0 to 3, got 4"),
        (lambda: one_hot(OWN, -1), r"\[one_hot\] expert must be from 0 to 3, got -1"),
        (lambda: scaled(OWN, -1.0), r"\[scaled\] factor must be 0 or more"),
        (lambda: mean_routing(OWN), r"\[mean_routing\] weights must be \(N, E\)"),
    ],
)
def test_wrong_arguments(wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_nan_keeps_the_routers_own_weight(model: nn.Module, image: np.ndarray) -> None:
    routers = trace(model, image).routers
    name, own = routers[0].name, routers[0].weights[0]
    given = own.copy()
    given[1] = 0
    wanted, found = trace(model, image, {name: given}), trace(model, image, {name: silence(len(own), 1)})
    np.testing.assert_allclose(found.output, wanted.output, atol=1e-6)
    np.testing.assert_allclose(found.routers[0].weights[0], given, atol=1e-7)


def test_variants_are_traces_one_by_one(model: nn.Module, image: np.ndarray) -> None:
    names = [router.name for router in trace(model, image).routers]
    overrides = [
        {},
        {names[0]: one_hot(OWN, 2)},
        {names[-1]: OWN, names[0]: silence(4, 3)},
        {names[-1]: 0 * OWN},
        {name: OWN for name in names},
    ]
    for batch in (2, 32):
        found = variants(model, image, overrides, batch)
        for v, override in enumerate(overrides):
            wanted = trace(model, image, override)
            np.testing.assert_allclose(found.output[v], wanted.output[0], atol=1e-5)
            for one, many in zip(wanted.routers, found.routers, strict=True):
                assert (one.name, one.layers) == (many.name, many.layers)
                np.testing.assert_allclose(many.weights[v], one.weights[0], atol=1e-6)
    # The routers after a changed one see other features.
    assert np.abs(found.routers[-1].weights[1] - found.routers[-1].weights[0]).max() > 1e-3


@pytest.mark.parametrize("batch", [5, 32])
def test_silencing_is_a_forward_pass_for_each_expert(model: nn.Module, image: np.ndarray, batch: int) -> None:
    found = silencing(model, image, batch=batch)
    base = trace(model, image)
    np.testing.assert_allclose(found.probabilities, base.probabilities[0], atol=1e-6)
    assert [rows.shape for rows in found.without] == [(4, 10)] * len(base.routers)
    largest = 0.0
    for router, rows in zip(base.routers, found.without, strict=True):
        for expert in range(4):
            given = router.weights[0].copy()
            given[expert] = 0
            wanted = trace(model, image, {router.name: given}).probabilities[0]
            np.testing.assert_allclose(rows[expert], wanted, atol=1e-5)
            largest = max(largest, float(np.abs(wanted - base.probabilities[0]).max()))
    assert largest > 1e-3
    label = int(base.probabilities[0].argmax())
    np.testing.assert_allclose(found.change(label)[1], found.without[1][:, label] - base.probabilities[0, label])


def test_silencing_keeps_an_intervention_in_force(model: nn.Module, image: np.ndarray) -> None:
    names = [router.name for router in trace(model, image).routers]
    override = {names[0]: OWN, names[1]: silence(4, 2)}
    found = silencing(model, image, override)
    without = OWN.copy()
    without[3] = 0
    wanted = trace(model, image, {names[0]: without, names[1]: silence(4, 2)})
    np.testing.assert_allclose(found.without[0][3], wanted.probabilities[0], atol=1e-5)
    # Silenced already.
    np.testing.assert_allclose(found.without[1][2], found.probabilities, atol=1e-5)


def test_one_image_and_known_routers_alone(model: nn.Module, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\[variants\] need one input \(1, ...\)"):
        variants(model, np.repeat(image, 2, 0), [{}])
    with pytest.raises(ValueError, match="and an override"):
        variants(model, image, [])
    with pytest.raises(ValueError, match="no router is called 'other'"):
        variants(model, image, [{"other": OWN}])
    name = trace(model, image).routers[0].name
    with pytest.raises(ValueError, match=r"must all be \(E,\), got the shapes \[\(1, 4\), \(4,\)\]"):
        variants(model, image, [{name: OWN}, {name: OWN[None]}])


def test_a_static_network_has_nothing_to_silence(image: np.ndarray) -> None:
    found = silencing(create_model("condconv_small", width=4, num_experts=None), image)
    assert not found.without and not found.routers and found.probabilities.shape == (10,)
