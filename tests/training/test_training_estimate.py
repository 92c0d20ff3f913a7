"""How long a training will take is measured by steps of its own, which leave nothing behind."""

import itertools
import json
import tempfile
from types import SimpleNamespace

import pytest
from training_material import fresh

from condconv_mlx.cli import main
from condconv_mlx.durations import roughly
from condconv_mlx.training import TrainingSettings, read_log, train
from condconv_mlx.training import estimate as module
from condconv_mlx.training.estimate import Estimate, estimate, made_up

SETTINGS = TrainingSettings(epochs=30, batch_size=16, holdout=16, shift=1, learning_rate=0.01)


def clock(monkeypatch, seconds):
    """Between two looks at the time, so many seconds pass."""
    times = itertools.accumulate(seconds, initial=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))


def test_the_first_step_does_not_count_and_the_median_of_the_others_does(dataset, monkeypatch):
    clock(monkeypatch, [60.0, 0.2, 0.1, 0.3, 0.2, *[0.2] * 20])
    found = estimate(fresh(), dataset, SETTINGS)
    # 96 of 112 images are trained on.
    assert found == Estimate(steps=180, steps_per_epoch=6, seconds_per_step=pytest.approx(0.2), batch_size=16)
    assert found.seconds == pytest.approx(36) and found.images_per_second == pytest.approx(80)


def test_few_slow_steps_are_enough(dataset, monkeypatch):
    clock(monkeypatch, [9.0, 5.0, 6.0, 7.0])
    assert estimate(fresh(), dataset, SETTINGS).seconds_per_step == 6.0


def test_as_many_steps_as_a_training_and_nothing_is_left(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    short = TrainingSettings(epochs=1, batch_size=48, holdout=16, shift=1)
    train(fresh(), dataset, tmp_path / "run", short)
    found = estimate(fresh(), dataset, short)
    start = read_log(tmp_path / "run").start
    assert start and (found.steps, found.steps_per_epoch) == (start["steps"], start["steps_per_epoch"]) == (2, 2)
    assert found.seconds_per_step > 0 and not list((tmp_path / "temporary").iterdir())
    with pytest.raises(ValueError, match="112 training images are too few"):
        estimate(fresh(), dataset, TrainingSettings(batch_size=100, holdout=16))


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("cifar10", (50_000, 32, 32, 3), 10),
        ("cifar100", (50_000, 32, 32, 3), 100),
        ("mnist", (60_000, 28, 28, 1), 10),
        ("fashion_mnist", (60_000, 28, 28, 1), 10),
    ],
)
def test_noise_has_the_shape_of_the_data_set(name, shape, classes):
    data = made_up(name)
    assert data.train_images.shape == shape and len(data.labels) == classes
    assert set(data.train_labels.tolist()) == set(range(classes))


def test_the_command_downloads_and_writes_nothing(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    options = ["--width", "4", "--experts", "2", "--batch-size", "8", "--epochs", "2", "--estimate"]
    assert main(["train", "--data", "cifar100", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 2 * found["steps_per_epoch"] == 2 * (49_000 // 8)
    assert found["seconds"] == pytest.approx(found["steps"] * found["seconds_per_step"]) and found["seconds"] > 0
    assert not list(tmp_path.iterdir())
    assert main(["train", "--data", f"folder:{pictures}", *options]) == 0
    assert capsys.readouterr().out.startswith("About ") and not (tmp_path / "runs").exists()
    assert main(["train", "--resume", "runs/birds", "--estimate"]) == 2
    assert "--estimate is for a run that begins" in capsys.readouterr().err


def test_times_have_one_unit():
    assert [roughly(seconds) for seconds in (40.4, 89, 91, 5000, 9000)] == ["40 s", "89 s", "2 min", "83 min", "2.5 h"]
