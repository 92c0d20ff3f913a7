"""The engine: right numbers, one thread, and errors that end a call and nothing else."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_material import EXPERTS, save_untrained

from condconv_mlx.app import engine, models
from condconv_mlx.checkpoint import CheckpointError

NAME = "condconv_small_cifar10"


def images(count: int, seed: int = 0, size: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def test_says_what_models_there_are(weights: Path) -> None:
    shipped = sorted(path.stem for path in weights.glob("*.safetensors"))
    assert models.names() == [*shipped, *models.published()]
    card = models.describe(NAME)
    assert (card.dataset, card.size, card.channels, card.num_experts) == ("cifar10", 32, 3, EXPERTS)
    assert (card.labels[3], card.accuracy, card.measured_on) == ("cat", 0.9012, "held-out images")
    assert models.describe("condconv_small_static_cifar10").num_experts is None


def test_answer_is_that_of_the_model(weights: Path) -> None:
    from condconv_mlx import load_model
    from condconv_mlx.data import normalise
    from condconv_mlx.explain import trace

    batch = images(3)
    answer = engine.run(NAME, batch)
    model = load_model(NAME)
    wanted = trace(model, normalise(batch, model.info["input"]["mean"], model.info["input"]["std"]))
    assert answer.probabilities.shape == (3, 10)
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.log(answer.probabilities), log_softmax(wanted.output), rtol=1e-3, atol=1e-3)
    assert [r.router for r in answer.routing] == [r.name for r in wanted.routers]
    for got, want in zip(answer.routing, wanted.routers, strict=True):
        assert got.layers == tuple(want.layers)
        np.testing.assert_allclose(got.weights, want.weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(answer.seen, batch)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - logits.max(1, keepdims=True) - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1))[:, None]


def test_nothing_of_mlx_escapes(weights: Path) -> None:
    answer = engine.run(NAME, images(1))
    kernels = engine.kernels(NAME, answer.routing[0].layers[0], answer.routing[0].weights[0])
    arrays = [answer.probabilities, answer.seen, kernels.experts, kernels.mixed, *(r.weights for r in answer.routing)]
    assert {type(array) for array in arrays} == {np.ndarray}


def test_static_network_has_no_routing(weights: Path) -> None:
    assert engine.run("condconv_small_static_cifar10", images(2)).routing == ()


def test_more_images_than_a_batch_keep_their_order(weights: Path) -> None:
    many = images(engine.BATCH + 9, seed=1)
    together = engine.run(NAME, many)
    last = engine.run(NAME, many[-1:])
    np.testing.assert_array_equal(together.probabilities[-1], last.probabilities[0])


def test_the_same_image_is_computed_once(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = images(4, seed=2)
    counted: list[int] = []
    compute = engine._compute

    def noted(model: Any, todo: np.ndarray) -> Any:
        counted.append(len(todo))
        return compute(model, todo)

    monkeypatch.setattr(engine, "_compute", noted)
    first = engine.run(NAME, batch)
    again = engine.run(NAME, np.concatenate([batch[::-1], batch[:1]]))
    assert counted == [4]
    np.testing.assert_array_equal(again.probabilities[:4], first.probabilities[::-1])


def test_kernels_are_mixed_by_the_weights(weights: Path) -> None:
    answer = engine.run(NAME, images(1))
    for routing in answer.routing:
        for layer in routing.layers:
            kernels = engine.kernels(NAME, layer, routing.weights[0])
            assert len(kernels.experts) == EXPERTS
            mixed = sum(w * k for w, k in zip(routing.weights[0], kernels.experts, strict=True))
            np.testing.assert_allclose(kernels.mixed, mixed, rtol=1e-4, atol=1e-6)


def test_calls_from_many_threads(weights: Path) -> None:
    batches = [images(2, seed=seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda batch: engine.run(NAME, batch), batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer.probabilities, engine.run(NAME, batch).probabilities)


def test_every_call_runs_on_one_thread(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    load = engine._load

    def noted(name: str) -> Any:
        seen.add(threading.current_thread().name)
        return load(name)

    monkeypatch.setattr(engine, "_load", noted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: engine.run(NAME, images(1, seed)), range(8)))
    assert len(seen) == 1
    assert threading.current_thread().name not in seen


def test_an_error_reaches_the_caller_and_the_thread_goes_on(weights: Path) -> None:
    with pytest.raises(ValueError):
        engine.kernels(NAME, "no.such.layer", np.ones(EXPERTS))
    with pytest.raises(CheckpointError, match="nowhere"):
        models.describe("nowhere")
    with pytest.raises(Exception):  # noqa: B017 - whatever MLX says of a wrong number of channels
        engine.run(NAME, images(1, channels=1))
    assert engine.run(NAME, images(1)).probabilities.shape == (1, 10)


def test_a_changed_file_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    save_untrained(tmp_path, "mine", seed=1)
    batch = images(1, seed=3)
    before = engine.run("mine", batch).probabilities
    save_untrained(tmp_path, "mine", seed=2, experts=None)
    after = engine.run("mine", batch)
    assert not np.allclose(before, after.probabilities)
    assert after.routing == ()


def test_a_damaged_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    path = save_untrained(tmp_path, "mine")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        models.describe("mine")


def test_work_without_a_model_has_its_turn_on_the_same_thread(weights: Path) -> None:
    def steps(count: int) -> Any:
        for number in range(count):
            yield number, threading.current_thread().name

    found = []
    for number, thread in engine.turns(steps, 3):
        # Between two steps others have their turn.
        assert engine.turn(lambda: threading.current_thread().name) == thread
        found.append(number)
        assert engine.run(NAME, images(1, seed=number)).probabilities.shape == (1, 10)
    assert found == [0, 1, 2] and thread.startswith("mlx")
    with pytest.raises(ZeroDivisionError):
        engine.turn(lambda: 1 // 0)
    assert engine.turn(max, 1, 2, key=lambda number: -number) == 1
