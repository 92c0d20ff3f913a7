"""Trained networks with a new classifier, and frozen ones."""

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from training_material import fresh

from condconv_mlx import create_model, load_model, save_model
from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.training import TrainingSettings, evaluate, for_classes, train
from condconv_mlx.training.finetuning import freeze_backbone, training_mode

SETTINGS = TrainingSettings(epochs=2, batch_size=16, holdout=16, shift=1, freeze=True)
LABELS = ["lying", "standing"]
INPUT = {"size": 28, "channels": 1, "mean": [0.25], "std": [0.5]}


def trained(path, **options):
    """A network of ten classes, on disk and back."""
    model = fresh(num_classes=10, **options)
    model.info.update(labels=list("abcdefghij"), input={**INPUT, "crop": 0.9, "interpolation": "bicubic"})
    save_model(model, path)
    return load_model(path)


def test_all_but_the_classifier_is_taken_over(tmp_path):
    old = trained(tmp_path / "old.safetensors")
    new = for_classes(old, LABELS)
    assert new.config == old.config | {"num_classes": 2} and new.info == {"input": INPUT}
    for name, value in named_arrays(new).items():
        if not name.startswith("classifier."):
            assert mx.array_equal(value, named_arrays(old)[name]), name
    assert new.classifier.weight.shape[1] == 2 and old.classifier.weight.shape[1] == 10


def test_a_network_of_the_same_classes_goes_on_as_it_is(dataset, tmp_path):
    """It keeps its classifier, and nothing is whitened: with a rate of nearly nothing it stays what it was."""
    train(fresh(), dataset, tmp_path / "old", TrainingSettings(epochs=2, batch_size=16, holdout=16, shift=1))
    old = load_model(tmp_path / "old" / "best.safetensors")
    model = for_classes(old, LABELS)
    for name, value in named_arrays(model).items():
        assert mx.array_equal(value, named_arrays(old)[name]), name
    other = for_classes(old, LABELS[::-1])
    assert not mx.array_equal(other.classifier.weight, old.classifier.weight)
    assert mx.array_equal(other.stem.weight, old.stem.weight)
    settings = TrainingSettings(epochs=1, batch_size=16, holdout=16, shift=1, learning_rate=1e-9)
    record = {"from": "old", "input": old.info["input"]}
    train(model, dataset, tmp_path / "run", settings, pretrained=record)
    for name, value in named_arrays(model).items():
        if "running" not in name:
            assert np.allclose(np.array(value), np.array(named_arrays(old)[name]), atol=1e-6), name


@pytest.mark.parametrize("experts", [2, None])
def test_a_frozen_network_learns_by_its_classifier_alone(dataset, tmp_path, experts):
    old = fresh(num_experts=experts)
    whole = TrainingSettings(epochs=4, batch_size=16, holdout=16, shift=1, learning_rate=0.05)
    train(old, dataset, tmp_path / "old", whole)
    old.info["input"] = INPUT
    model = for_classes(old, LABELS)
    before = {name: np.array(value) for name, value in named_arrays(model).items()}
    record = {"from": "old", "input": INPUT}
    train(model, dataset, tmp_path / "run", replace(SETTINGS, epochs=6), pretrained=record)
    changed = {name for name, value in named_arrays(model).items() if not np.array_equal(before[name], np.array(value))}
    assert changed and all(name.startswith("classifier.") for name in changed)
    best = load_model(tmp_path / "run" / "best.safetensors")
    # Images are normalised as the old network wants them, and nothing is said of how the old ones were cropped.
    assert best.info["input"] == INPUT and best.info["labels"] == ["lying", "standing"]
    assert evaluate(best, dataset.test_images, dataset.test_labels, best.info["input"]).accuracy > 0.8


def test_a_resumed_frozen_run_equals_a_whole_one(dataset, tmp_path):
    old = trained(tmp_path / "old.safetensors")
    mx.random.seed(1)
    whole = for_classes(old, LABELS)
    record = {"from": "old", "input": INPUT}
    train(whole, dataset, tmp_path / "whole", SETTINGS, pretrained=record)

    def interrupt(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    mx.random.seed(1)
    parts = for_classes(old, LABELS)
    with pytest.raises(KeyboardInterrupt):
        train(parts, dataset, tmp_path / "parts", SETTINGS, on_progress=interrupt, pretrained=record)
    resumed = create_model(**parts.config)
    train(resumed, dataset, tmp_path / "parts", SETTINGS, resume=True, pretrained=record)
    for name, value in named_arrays(whole).items():
        assert np.allclose(np.array(value), np.array(named_arrays(resumed)[name]), atol=1e-6), name


def test_what_is_frozen_and_what_stays_in_which_mode():
    model = fresh()
    freeze_backbone(model)
    names = {name for name, _ in tree_flatten(model.trainable_parameters())}
    assert names == {f"classifier.{name}" for name in ("weight", "bias")} | {
        f"classifier.router.{name}" for name in ("norm.weight", "norm.bias", "linear.weight", "linear.bias")
    }
    training_mode(model, frozen=True)
    assert not model.norm.training and not model.blocks[1].router.training
    assert model.classifier.training and model.classifier.router.norm.training
    training_mode(model, frozen=False)
    assert model.norm.training
    with pytest.raises(ValueError, match="no classifier"):
        freeze_backbone(nn.Sequential(nn.Linear(2, 2)))


def test_networks_that_cannot_be_taken_over():
    with pytest.raises(ValueError, match="only a network of create_model"):
        for_classes(nn.Linear(2, 2), LABELS)
    with pytest.raises(ValueError, match="does not say which images"):
        for_classes(fresh(), LABELS)
