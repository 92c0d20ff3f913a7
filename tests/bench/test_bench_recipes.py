"""Training of the shipped networks: by their own settings, on noise of their shape, divided among their layers."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from bench_material import ONCE, RECIPES

from condconv_mlx import create_model, save_model
from condconv_mlx.bench import layer_times, recipes
from condconv_mlx.bench.cases import CONDITIONAL, NORM, POOLING, ROUTING, STATIC, Recipe
from condconv_mlx.bench.text import parts
from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.training import TrainingSettings

HOW = {"batch_size": 8, "epochs": 2, "shift": 1, "cutout": 2, "mixup": 0.2, "ema": 0.9, "accumulate": 2, "warmup": 0.5}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network as it is shipped, with experts, and one that does not say how it was trained."""
    for name, info in (("mine", {"training": {"settings": HOW}}), ("silent", {})):
        model: Any = create_model("condconv_small", num_classes=3, num_experts=2, in_channels=1, width=4)
        model.info.update(
            labels=["a", "b", "c"], input={"size": 12, "channels": 1, "mean": [0.5], "std": [0.2]}, **info
        )
        save_model(model, tmp_path / f"{name}.safetensors")
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    return tmp_path


def test_a_recipe_is_that_of_the_file(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = recipes.input_cost

    def cost(dataset: Any, augmentation: Any, train: Any, batch_size: int, steps: int) -> Any:
        seen.append((dataset, augmentation, batch_size, steps))
        return real(dataset, augmentation, train, batch_size, steps)

    monkeypatch.setattr(recipes, "input_cost", cost)
    (row,) = recipes.measure_recipes([Recipe("mine", 800, 1.0)], images=40, steps=2, effort=ONCE)
    ((dataset, augmentation, batch, steps),) = seen
    assert dataset.train_images.shape == (40, 12, 12, 1) and dataset.labels == ["a", "b", "c"]
    assert augmentation == TrainingSettings(**HOW).augmentation and (batch, steps) == (8, 2)
    assert (row.weights, row.images, row.batch) == ("mine", 800, 8)
    assert row.images_per_second == pytest.approx(8000 / (row.input_ms + row.step_ms))
    assert row.epoch_seconds == pytest.approx(100 * (row.input_ms + row.step_ms) / 1e3)
    assert set(row.layers) == {CONDITIONAL, STATIC, NORM, POOLING, ROUTING}
    assert min(row.input_ms, row.step_ms, row.optimiser_ms) > 0


def test_a_step_is_the_trainers_and_changes_the_weights(weights: Path) -> None:
    settings = TrainingSettings(**HOW)
    model = create_model("condconv_small", num_classes=3, num_experts=2, in_channels=1, width=4).train()
    optimizer = recipes.optimizer_for(settings, 10, 5)
    optimizer.init(model.trainable_parameters())
    before = {name: np.array(value) for name, value in named_arrays(model).items()}
    step = recipes._step(model, optimizer, settings)
    step(mx.random.normal((8, 12, 12, 1)), mx.full((8, 3), 1 / 3))
    changed = [name for name, value in named_arrays(model).items() if not np.array_equal(before[name], np.array(value))]
    assert {"stem.weight", "blocks.2.conv2.weight", "classifier.weight"} <= set(changed)
    assert int(optimizer.step) == 1


def test_weights_that_do_not_say_how_are_named(weights: Path) -> None:
    with pytest.raises(ValueError, match="silent does not say by which settings"):
        next(recipes.measure_recipes([Recipe("silent", 800)], images=16, steps=1, effort=ONCE))


def test_only_weights_that_are_here_are_measured(weights: Path) -> None:
    assert recipes.shipped() == []
    assert recipes.shipped([Recipe("mine", 1), Recipe("nobody", 1)]) == [Recipe("mine", 1)]


def test_the_shipped_ones_are_all_here() -> None:
    assert [recipe.weights for recipe in recipes.shipped()] == [recipe.weights for recipe in recipes.RECIPES]


@pytest.mark.parametrize("experts", [None, 2])
@pytest.mark.parametrize("separate", [False, True])
def test_every_layer_with_parameters_is_in_one_kind(experts: int | None, separate: bool) -> None:
    model = create_model("condconv_small", num_experts=experts, width=4, separate_routers=separate)
    timed = list(layer_times.kinds_of(model))
    for name, module in model.named_modules():
        own = any(isinstance(value, mx.array) for value in module.values())
        above = [place for place in timed if name == place or name.startswith(f"{place}.")]
        assert not own or len(above) == 1, name
    assert POOLING in {kind for _, kind in layer_times.kinds_of(model).values()}


def test_each_call_of_a_layer_is_timed_and_the_model_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(works: dict[str, Any], _: Any) -> dict[str, float]:
        for work in works.values():
            work()
        return {"forward": 1.0, "both": 3.5}

    monkeypatch.setattr(layer_times, "median_times", timed)
    model = create_model("condconv_small", num_experts=2, width=4).eval()
    before = {name: np.array(value) for name, value in named_arrays(model).items()}
    found = layer_times.layer_times(model, mx.random.normal((3, 8, 8, 3)), ONCE)
    # Blocks 1 and 2 are conditional; batch norm and ReLU come twice in each block, and after the stem.
    calls = {CONDITIONAL: 2 * 2, STATIC: 1 + 2, NORM: 2 * (1 + 3 * 2), POOLING: 3, ROUTING: 2 + 1}
    assert {kind: times.forward_ms for kind, times in found.items()} == calls
    assert {kind: times.backward_ms for kind, times in found.items()} == {k: 2.5 * n for k, n in calls.items()}
    for name, value in named_arrays(model).items():
        np.testing.assert_array_equal(np.array(value), before[name], name)
    assert not model.training


def test_gradients_are_those_of_parameters_and_inputs_but_not_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # The shape of the first array, and how many there are.
    asked: list[tuple[int, ...]] = []
    real = mx.vjp

    def spy(function: Any, arrays: list[mx.array], cotangents: list[mx.array]) -> Any:
        asked.append((*arrays[0].shape, len(arrays)))
        return real(function, arrays, cotangents)

    monkeypatch.setattr(mx, "vjp", spy)
    model = create_model("condconv_small", num_experts=2, width=4)
    layer_times.layer_times(model, mx.random.normal((3, 8, 8, 3)), ONCE)
    # Of the stem its kernel alone; of a layer with experts also its input and the routing weights.
    assert (4, 3, 3, 3, 1) in asked and (2, 18, 3, 3, 18, 3) in asked


def test_findings_are_epochs_with_a_target_and_the_largest_input() -> None:
    epoch, share = recipes.recipe_findings(RECIPES)
    assert (epoch.value, epoch.target, epoch.unit, epoch.met) == (46.875, 60, "s", True)
    assert (share.value, share.target, share.met) == (10.0, 5.0, False)
    assert share.where == "condconv_small_static_cifar10"
    assert recipes.recipe_findings([]) == []


def test_parts_add_up_to_the_step() -> None:
    found = parts(RECIPES[0])
    assert [name for name, *_ in found] == ["input", CONDITIONAL, STATIC, "optimiser", "the rest"]
    assert sum(ms for _, ms, _ in found) == pytest.approx(100)
    # Each layer is waited for, which may cost more than is saved by leaving out the rest.
    assert RECIPES[1].rest_ms == -12
