"""Training: it learns, it resumes to the bit, it keeps the best, and it says what is wrong."""

import os

import mlx.core as mx
import numpy as np
import pytest
from training_material import fresh

from condconv_mlx import load_model
from condconv_mlx.checkpoint import CheckpointError, named_arrays
from condconv_mlx.data.augmentation import Augmentation
from condconv_mlx.training import TrainingSettings, evaluate, read_log, train
from condconv_mlx.training.run_folder import STATE

SETTINGS = TrainingSettings(epochs=2, batch_size=16, holdout=16, warmup=0.5, shift=1)


def test_learns_and_the_saved_best_model_does_what_was_measured(dataset, tmp_path):
    seen = []
    settings = TrainingSettings(epochs=6, batch_size=16, holdout=16, shift=1, learning_rate=0.05)
    summary = train(fresh(), dataset, tmp_path, settings, on_progress=seen.append)
    best = load_model(tmp_path / "best.safetensors")
    result = evaluate(best, dataset.test_images, dataset.test_labels, best.info["input"])
    assert result.accuracy > 0.9
    assert summary["held_out_accuracy"] == max(line["held_out_accuracy"] for line in log(tmp_path))
    assert [p.step for p in seen] == list(range(1, 37)) and seen[-1].steps == 36
    assert seen[-1].seconds_left == 0 and seen[-1].images_per_second > 0
    assert best.info["labels"] == ["lying", "standing"] and best.info["input"]["size"] == 28
    assert best.info["training"]["settings"]["seed"] == 0
    for line in log(tmp_path):
        assert set(line["routing"]) == {"blocks.1.router", "blocks.2.router", "classifier.router"}
        for routing in line["routing"].values():
            assert len(routing["experts"]) == 2 and 0 <= routing["entropy"] <= 1 and 0 <= routing["saturated"] <= 1
        assert line["memory_mb"] > 0
    assert max(routing["deviation"] for routing in log(tmp_path)[-1]["routing"].values()) > 0.001


def log(folder):
    return read_log(folder).epochs


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("stop", [3, 6])
def test_a_resumed_run_equals_an_uninterrupted_one(dataset, tmp_path, optimizer, stop):
    settings = TrainingSettings(epochs=2, batch_size=16, holdout=16, optimizer=optimizer, learning_rate=0.01)
    whole = fresh(router_dropout=0.3)
    train(whole, dataset, tmp_path / "whole", settings)

    def interrupt(progress):
        if progress.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(router_dropout=0.3), dataset, tmp_path / "parts", settings, on_progress=interrupt)
    resumed = fresh(seed=9, router_dropout=0.3)
    train(resumed, dataset, tmp_path / "parts", settings, resume=True)
    for name, value in named_arrays(whole).items():
        if mx.default_device() == mx.cpu:
            assert np.array_equal(np.array(value), np.array(named_arrays(resumed)[name])), name
        else:
            assert np.allclose(np.array(value), np.array(named_arrays(resumed)[name]), atol=1e-3), name
    kept = [[line["held_out_accuracy"] for line in log(tmp_path / run)] for run in ("whole", "parts")]
    assert kept[0] == kept[1]


@pytest.mark.skipif(
    mx.default_device() == mx.cpu and "CONDCONV_MLX_COMPILE" not in os.environ,
    reason="used on GPUs; on a CPU, compiling takes minutes (set CONDCONV_MLX_COMPILE to do it all the same)",
)
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "ema": 0.9, "clip": 1.0, "decay": "kernels", "accumulate": 2, "mixup": 0.2},
        {"checkpointing": True, "balance": 0.1, "temperature": 5.0, "temperature_epochs": 1.0, "mixing": "outputs"},
        {"precision": "bfloat16"},
        {"optimizer": "muon", "checkpointing": True},
    ],
)
def test_a_compiled_run_equals_a_plain_one(dataset, tmp_path, monkeypatch, options):
    from condconv_mlx.training import loop

    settings = TrainingSettings(epochs=2, batch_size=16, holdout=16, learning_rate=0.01, warmup=0.5, **options)
    real = loop.step_function
    results = []
    for compiled in (False, True):
        monkeypatch.setattr(loop, "step_function", lambda *a, c=compiled, **_: real(*a, compiled=c))
        model = fresh(router_dropout=0.3, routing="softmax")
        train(model, dataset, tmp_path / str(compiled), settings)
        results.append(named_arrays(model))
    tolerance = 2e-2 if "precision" in options else 1e-3
    for name, value in results[0].items():
        assert np.allclose(np.array(value), np.array(results[1][name]), atol=tolerance), name


def test_keeps_the_best_epoch_not_the_last(dataset, tmp_path, monkeypatch):
    from condconv_mlx.training import epoch

    scores = iter([0.5, 0.9, 0.2])

    class Score:
        def __init__(self):
            self.accuracy, self.loss = next(scores), 0.0

    monkeypatch.setattr(epoch, "evaluate", lambda *_: Score())
    summary = train(fresh(), dataset, tmp_path, TrainingSettings(epochs=3, batch_size=16, holdout=16))
    assert summary["best_epoch"] == 2 and summary["held_out_accuracy"] == 0.9
    assert load_model(tmp_path / "best.safetensors").info["training"]["epoch"] == 2


def test_without_a_holdout_the_last_epoch_is_kept(dataset, tmp_path):
    summary = train(fresh(), dataset, tmp_path, TrainingSettings(epochs=2, batch_size=16, holdout=0))
    assert summary["best_epoch"] == 2 and (tmp_path / "best.safetensors").exists()


def test_held_out_images_are_never_trained_on(dataset, tmp_path, monkeypatch):
    from condconv_mlx.training import loop

    batches = []
    real = loop.augment_batch

    def spy(images, *given):
        batches.append(np.array(images))
        return real(images, *given)

    monkeypatch.setattr(loop, "augment_batch", spy)
    train(fresh(), dataset, tmp_path, SETTINGS)
    used = {image.tobytes() for batch in batches for image in batch}
    every = {image.tobytes() for image in dataset.train_images}
    assert used < every and len(every - used) == 16


def test_a_run_is_not_overwritten_and_a_damaged_one_not_resumed(dataset, tmp_path):
    train(fresh(), dataset, tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="already holds a run"):
        train(fresh(), dataset, tmp_path, SETTINGS)
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged"):
        train(fresh(), dataset, tmp_path, SETTINGS, resume=True)
    with pytest.raises(CheckpointError, match="no file"):
        train(fresh(), dataset, tmp_path / "nothing", SETTINGS, resume=True)


def test_images_are_augmented_as_the_settings_say(dataset, tmp_path, monkeypatch):
    from condconv_mlx.training import loop

    seen = []
    real = loop.augment_batch

    def watched(images, labels, classes, augmentation, *more):
        seen.append(augmentation)
        return real(images, labels, classes, augmentation, *more)

    monkeypatch.setattr(loop, "augment_batch", watched)
    wanted = {
        "shift": 3,
        "flip": False,
        "cutout": 5,
        "mixup": 0.2,
        "cutmix": 1.0,
        "jitter": 0.1,
        "hue": 0.2,
        "policy": 1,
    }
    settings = TrainingSettings(epochs=1, batch_size=16, holdout=16, magnitude=5.0, **wanted)
    train(fresh(), dataset, tmp_path, settings)
    assert seen == [Augmentation(**wanted, magnitude=5.0)] * 6


def test_a_loss_that_blows_up_is_said(dataset, tmp_path):
    settings = TrainingSettings(epochs=3, batch_size=16, holdout=16, learning_rate=1e30, warmup=0)
    with pytest.raises(ValueError, match="no longer finite.*lower learning rate"):
        train(fresh(), dataset, tmp_path, settings)


def test_too_few_images(dataset, tmp_path):
    with pytest.raises(ValueError, match="112 training images are too few for 100 held out and batches of 16"):
        train(fresh(), dataset, tmp_path, TrainingSettings(batch_size=16, holdout=100))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"optimizer": "lion"}, '"sgd" or "adamw" or "muon", got "lion"'),
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"epochs": float("inf")}, "epochs must be finite, got inf"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite, got nan"),
        ({"schedule": "step"}, '"cosine" or "one-cycle", got "step"'),
        ({"ema": 1.0}, r"ema must be in \[0, 1\), got 1.0"),
        ({"clip": -1}, "clip must be at least 0, got -1"),
        ({"temperature": 30}, "temperature and temperature_epochs belong together, got 30 and 0"),
        ({"batch_size": 10, "accumulate": 4}, "10 images cannot be divided into 4 parts"),
        ({"mixup": 0.2, "batch_size": 1}, "want a batch of two images"),
        ({"cache_gb": -1}, "cache_gb must be at least 0"),
        ({"cutmix": -1}, "cutmix"),
        ({"learning_rate": -1}, "learning_rate must be above 0"),
        ({"holdout": -1}, "holdout must be at least 0"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_bad_settings(bad, says):
    with pytest.raises(ValueError, match=says):
        TrainingSettings(**bad)


def test_evaluation_counts(dataset):
    class Always(type(fresh())):  # type: ignore[misc]
        def __init__(self):
            super(type(fresh()), self).__init__()

        def __call__(self, x):
            return mx.broadcast_to(mx.array([0.0, 1.0]), (x.shape[0], 2))

    result = evaluate(Always(), dataset.test_images, dataset.test_labels, {"mean": [0.5], "std": [0.2]}, batch_size=7)
    ones = int((dataset.test_labels == 1).sum())
    assert (result.count, result.correct) == (40, ones) and result.accuracy == ones / 40
    assert result.confusion.tolist() == [[0, 40 - ones], [0, ones]]
    wanted = np.mean(np.where(dataset.test_labels == 1, np.log1p(np.exp(-1.0)), np.log1p(np.exp(1.0))))
    assert abs(result.loss - wanted) < 1e-5
    with pytest.raises(ValueError, match="no images"):
        evaluate(Always(), dataset.test_images[:0], dataset.test_labels[:0], {"mean": [0.5], "std": [0.2]})
