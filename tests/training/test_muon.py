"""Muon against the iteration written out in float64, one expert after the other."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from condconv_mlx.models import create_model
from condconv_mlx.training import TrainingSettings, muon
from condconv_mlx.training.muon import Muon, orthogonal
from condconv_mlx.training.optimiser import BESIDE_MUON, optimizer_for

SHAPES = ((12, 40), (40, 12), (9, 9), (3, 12, 40), (2, 3, 40, 12))


def iterated(matrix: np.ndarray) -> np.ndarray:
    """Newton and Schulz on one matrix, as in Jordan's text: M rows, at most as many as columns."""
    a, b, c = 3.4445, -4.7750, 2.0315
    if matrix.shape[0] > matrix.shape[1]:
        return iterated(matrix.T).T
    x = matrix / np.sqrt((matrix**2).sum())
    for _ in range(muon.ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_iteration_of_every_matrix(shape):
    x = np.random.default_rng(0).normal(size=shape)
    x[..., 0, :] *= 1e3
    x[..., 1, :] *= 1e-3
    ours = np.array(orthogonal(mx.array(x.astype(np.float32))))
    matrices = x.reshape(-1, *shape[-2:])
    truth = np.stack([iterated(matrix) for matrix in matrices]).reshape(shape)
    assert np.allclose(ours, truth, atol=1e-4)


def test_singular_values_come_near_one_and_directions_stay():
    x = np.random.default_rng(1).normal(size=(16, 64)).astype(np.float32)
    u, s, v = np.linalg.svd(np.array(orthogonal(mx.array(x))), full_matrices=False)
    assert 0.3 < s.min() and s.max() < 1.3
    exact = np.linalg.svd(x, full_matrices=False)
    along = np.diag(exact[0].T @ np.array(orthogonal(mx.array(x))) @ exact[2].T)
    assert np.allclose(np.sort(along), np.sort(s), atol=1e-4)


def test_nothing_learned_is_nothing_changed():
    assert not np.array(orthogonal(mx.zeros((2, 4, 6)))).any()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", [(6, 3, 3, 2), (40, 1, 1, 4), (3, 6, 3, 3, 2)])
def test_two_steps_of_every_expert(shape, count, monkeypatch):
    monkeypatch.setattr(muon, "parts", lambda work, least: count)
    rng = np.random.default_rng(2)
    start = rng.normal(size=shape)
    gradients = [rng.normal(size=shape) for _ in range(2)]
    optimizer = Muon(0.1, momentum=0.8, weight_decay=0.3)
    parameters = {"weight": mx.array(start.astype(np.float32))}
    optimizer.init(parameters)
    for gradient in gradients:
        parameters = optimizer.apply_gradients({"weight": mx.array(gradient.astype(np.float32))}, parameters)
    rows, columns = shape[-4], shape[-3] * shape[-2] * shape[-1]
    experts = start.reshape(-1, rows, columns)
    for number, expert in enumerate(experts):
        velocity = np.zeros((rows, columns))
        for gradient in gradients:
            g = gradient.reshape(-1, rows, columns)[number]
            velocity = 0.8 * velocity + g
            expert *= 1 - 0.1 * 0.3
            expert -= 0.1 * max(1, rows / columns) ** 0.5 * iterated(g + 0.8 * velocity)
    assert np.allclose(np.array(parameters["weight"]), experts.reshape(shape), atol=1e-4)


def test_it_is_for_convolutions_and_the_rest_goes_by_sgd():
    mx.random.seed(0)
    model = create_model("condconv_small", num_classes=10, num_experts=2, width=4).train()
    settings = TrainingSettings(optimizer="muon", weight_decay=0.1, warmup=0, learning_rate=0.5)
    optimizer = optimizer_for(settings, 10, 5)
    parameters = model.trainable_parameters()
    optimizer.init(parameters)
    before = {name: np.array(value) for name, value in tree_flatten(parameters)}
    convolutions = {name for name, value in before.items() if value.ndim > 3}
    of_blocks = {f"blocks.{block}.conv{number}.weight" for block in range(3) for number in (1, 2)}
    assert convolutions == {"stem.weight"} | of_blocks
    optimizer.update(model, tree_map(mx.ones_like, parameters))
    for name, value in tree_flatten(model.trainable_parameters()):
        moved = np.array(value) - before[name]
        if name in convolutions:
            # Gradients that are all alike have one singular value, and an eigenvector of equal numbers.
            assert np.ptp(moved + 0.05 * before[name]) < 1e-5 and np.abs(moved).max() < 0.5, name
        else:
            assert np.allclose(moved, -0.5 * BESIDE_MUON * 1.9, atol=1e-5), name


def test_a_depthwise_kernel_is_no_matrix():
    model = create_model("mobilenet_v1", num_classes=10, num_experts=2)
    optimizer = optimizer_for(TrainingSettings(optimizer="muon"), 10, 5)
    optimizer.init(model.trainable_parameters())
    taken = {name for name, _ in tree_flatten(optimizer.state["states"][0]) if name.endswith(".v")}
    assert taken and not [name for name in taken if "depthwise" in name]
