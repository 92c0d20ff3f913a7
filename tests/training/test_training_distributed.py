"""Several processes that train one model: the same weights as one process, and an end for all when one ends."""

import json
import os
import signal
import subprocess
import sys
import time

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx.cli import main
from condconv_mlx.training import read_log, run_status, stop_run
from condconv_mlx.training.distributed import (
    RANK,
    average_statistics,
    launch,
    own_part,
    same_as_first,
    sums,
    told_by_first,
)
from condconv_mlx.training.run_folder import saved_step

TRAIN = """
import sys
from condconv_mlx.cpu import tune_process
tune_process()
import mlx.core as mx, mlx.nn as nn, numpy as np
from pathlib import Path
from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.data import Dataset
from condconv_mlx.layers import CondConv2d, CondLinear
from condconv_mlx.training import TrainingSettings, train
import condconv_mlx.training.epoch as epoch
from condconv_mlx.training.distributed import rank_and_size

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = CondConv2d(1, 8, 3, 4, stride=2)
        self.norm = nn.GroupNorm(2, 8, pytorch_compatible=True)
        self.head = CondLinear(8, 2, 4)
    def __call__(self, x):
        return self.head(nn.relu(self.norm(self.conv(x))).mean(axis=(1, 2)))

# What save_model needs of a model, and this one has not.
epoch.save_model = lambda *_: None
rank, _ = rank_and_size()
mx.random.seed(rank)  # the first process decides
model = Net()
object.__setattr__(model, "config", {"num_classes": 2, "in_channels": 1})
object.__setattr__(model, "info", {})
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 255, (80, 12, 12, 1), dtype=np.uint8), rng.integers(0, 2, 80).astype(np.int32)
dataset = Dataset("noise", ["a", "b"], images, labels, images[:8], labels[:8], "made here")
settings = TrainingSettings(epochs=3, batch_size=16, holdout=16, shift=0, flip=False, whiten=False, warmup=0)
train(model, dataset, Path(sys.argv[1]), settings)
np.savez(Path(sys.argv[1]) / f"weights{rank}.npz", **{n: np.array(v) for n, v in named_arrays(model).items()})
"""
NORMALISED = """
import sys
from condconv_mlx.cpu import tune_process
tune_process()
from pathlib import Path
import mlx.core as mx, numpy as np
from condconv_mlx import create_model
from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.data import Dataset
from condconv_mlx.training import TrainingSettings, train
from condconv_mlx.training.distributed import rank_and_size

rank, _ = rank_and_size()
mx.random.seed(5)
model = create_model("condconv_small", num_classes=2, num_experts=2, in_channels=1, width=4)
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 255, (64, 12, 12, 1), dtype=np.uint8), rng.integers(0, 2, 64).astype(np.int32)
dataset = Dataset("noise", ["a", "b"], images, labels, images[:8], labels[:8], "made here")
settings = TrainingSettings(epochs=2, batch_size=16, holdout=16, learning_rate=0.02, mixup=0.2, sync_norm=True, ema=0.5)
train(model, dataset, Path(sys.argv[1]), settings)
np.savez(Path(sys.argv[1]) / f"weights{rank}.npz", **{n: np.array(v) for n, v in named_arrays(model).items()})
"""
TINY = "--width 4 --experts 2 --batch-size 8 --holdout 8 --shift 1 --learning-rate 0.05".split()


def test_two_processes_train_to_the_weights_of_one(tmp_path):
    """SGD, group normalisation, no augmentation."""
    for processes in (1, 2):
        assert launch([sys.executable, "-c", TRAIN, str(tmp_path / str(processes))], processes) == 0
    alone = np.load(tmp_path / "1" / "weights0.npz")
    first, second = (np.load(tmp_path / "2" / f"weights{rank}.npz") for rank in (0, 1))
    for name in alone.files:
        assert np.array_equal(first[name], second[name]), name
        assert np.abs(first[name] - alone[name]).max() <= 1e-5 * max(1, np.abs(alone[name]).max()), name
    one, two = (read_log(tmp_path / n).epochs for n in ("1", "2"))
    assert [line["accuracy"] for line in one] == [line["accuracy"] for line in two]
    assert np.allclose([line["loss"] for line in one], [line["loss"] for line in two], atol=1e-4)


def test_synchronised_batch_normalisation_trains_to_the_weights_of_one(tmp_path):
    """With batch normalisation in network and routers, augmentation, mixup and moving average."""
    for processes in (1, 2):
        assert launch([sys.executable, "-c", NORMALISED, str(tmp_path / str(processes))], processes) == 0
    alone = np.load(tmp_path / "1" / "weights0.npz")
    first, second = (np.load(tmp_path / "2" / f"weights{rank}.npz") for rank in (0, 1))
    for name in alone.files:
        assert np.array_equal(first[name], second[name]), name
        assert np.abs(first[name] - alone[name]).max() <= 2e-4 * max(1, np.abs(alone[name]).max()), name
    assert any("running_var" in name for name in alone.files)
    one, two = (read_log(tmp_path / n).epochs for n in ("1", "2"))
    assert np.allclose([line["loss"] for line in one], [line["loss"] for line in two], atol=1e-4)


def test_processes_with_other_images_do_not_begin(tmp_path):
    other = NORMALISED.replace("dataset = ", "labels[:rank] = 1 - labels[:rank]\ndataset = ")
    # Each into a file of its own: on one standard error their lines may mix.
    said = "sys.stderr = open(f'{sys.argv[1]}-{rank}', 'w')\nmx.random.seed(5)"
    command = [sys.executable, "-c", other.replace("mx.random.seed(5)", said), str(tmp_path / "run")]
    assert launch(command, 2) == 1
    for rank in (0, 1):
        text = (tmp_path / f"run-{rank}").read_text()
        assert text.count("ValueError: the training images are not the same for all processes") == 1
    assert saved_step(tmp_path / "run") is None


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_two_processes_stop_together_and_save(pictures, tmp_path, number, status):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "condconv_mlx", "train", "--processes", "2", "--data", f"folder:{pictures}"]
    process = subprocess.Popen(
        [*command, "--out", str(run), *TINY, "--epochs", "3000"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not read_log(run).steps and time.monotonic() < deadline:
        time.sleep(0.05)
    # A signal to the command, or to the first process alone, as from the app.
    if number == signal.SIGTERM:
        assert stop_run(run)
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "To go on: condconv-mlx train --resume" in err and "Traceback" not in err
    assert run_status(run).state == "stopped" and saved_step(run) == run_status(run).step > 0


def test_the_command_trains_in_two_processes_and_resumes(pictures, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "condconv_mlx", "train", "--processes", "2", "--json"]

    def started(*arguments):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        # The first process alone has something to say.
        return json.loads(done.stdout)

    summary = started("--data", f"folder:{pictures}", "--out", str(run), *TINY, "--epochs", "5")
    assert summary["test_accuracy"] > 0.5 and len(read_log(run).epochs) == 5
    started("--resume", str(run), "--epochs", "6")
    assert len(read_log(run).epochs) == 6
    from condconv_mlx import load_model

    assert load_model(run / "best.safetensors").info["training"]["processes"] == 2


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        (["--batch-size", "9"], 1, "a batch of 9 images cannot be divided among 2 processes"),
        (["--data", "folder:/nowhere"], 1, "/nowhere"),
        (["--processes", "0"], 2, "number above 0"),
    ],
)
def test_mistakes_end_all_processes(pictures, tmp_path, arguments, status, says):
    base = ["--data", f"folder:{pictures}", "--out", str(tmp_path / "run"), *TINY, "--processes", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "condconv_mlx", "train", *base, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status and says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_launched_process_does_not_launch_again(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv(RANK, "0")
    arguments = ["--data", f"folder:{pictures}", "--out", str(tmp_path / "run"), *TINY, "--epochs", "1"]
    assert main(["train", "--processes", "3", *arguments]) == 0
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_when_one_fails_the_others_end():
    code = f"import os, sys, time; sys.exit(3) if os.environ['{RANK}'] == '1' else time.sleep(60)"
    before = time.monotonic()
    assert launch([sys.executable, "-c", code], 3) == 3
    assert time.monotonic() - before < 15


def test_ctrl_c_reaches_each_process_once(tmp_path):
    child = f"""
import os, time
try:
    open(r"{tmp_path}/ready" + os.environ["{RANK}"], "w")
    time.sleep(60)
except KeyboardInterrupt:
    open(r"{tmp_path}/stopped" + os.environ["{RANK}"], "w")
    time.sleep(0.5)  # a second signal would end it here
    open(r"{tmp_path}/saved" + os.environ["{RANK}"], "w")
    raise SystemExit(130)
"""
    parent = f"""
import sys
from condconv_mlx.training.distributed import launch
sys.exit(launch([sys.executable, "-c", {child!r}], 2))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert len(list(tmp_path.glob("saved*"))) == 2


def test_alone_nothing_changes():
    assert os.environ.get(RANK) is None
    batch, tree = np.arange(5), {"a": [mx.ones(2), mx.zeros(3)]}
    assert own_part(len(batch)) is None and sums([1.5, 2]) == [1.5, 2]
    assert same_as_first(tree) is tree and told_by_first(lambda: {"x": 1}) == {"x": 1}
    norm = mx.ones(3)
    import mlx.nn as nn

    layer = nn.BatchNorm(3)
    average_statistics(layer, {})
    assert mx.array_equal(layer.running_var, norm)
