"""Runs that are really made: one in this process, and several in processes of their own."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from condconv_mlx.data import load_dataset
from condconv_mlx.functional import conditional
from condconv_mlx.study.one import carry_out, subset
from condconv_mlx.study.plan import Run
from condconv_mlx.study.runner import DONE, carry_out_all, finished

TRAINING = {"epochs": 1, "batch_size": 16, "learning_rate": 0.05, "shift": 1, "flip": True, "holdout": 0, "seed": 0}


def tiny(pictures, experts=2, images=48, **training):
    model = {"width": 2, "in_channels": 3, "num_experts": experts}
    return Run(f"folder:{pictures}", images, model, TRAINING | training)


def test_a_run_tests_its_last_weights_on_all_test_images(pictures):
    shares = []
    dataset = load_dataset(f"folder:{pictures}", progress=False)
    found = carry_out(tiny(pictures, epochs=2), dataset, shares.append)
    assert shares == pytest.approx([i / 6 for i in range(1, 7)])
    assert (found["test_images"], found["train_images"], len(found["epochs"])) == (20, 48, 2)
    assert 0 <= found["test_accuracy"] <= 1 and (20 * found["test_accuracy"]) == round(20 * found["test_accuracy"])
    assert set(found["routing"]) == {"blocks.1.router", "blocks.2.router", "classifier.router"}
    assert found["seconds"] > 0 and found["multiply_adds"] > found["parameters"] > 0
    assert json.loads(json.dumps(found)) == found
    # The same run once more gives the same weights; another seed other ones.
    again = carry_out(tiny(pictures, epochs=2), dataset)
    assert (again["test_loss"], again["epochs"]) == (found["test_loss"], found["epochs"])
    assert carry_out(tiny(pictures, epochs=2, seed=1), dataset)["test_loss"] != found["test_loss"]


def test_mixing_kernels_and_outputs_train_alike(pictures, monkeypatch):
    dataset = load_dataset(f"folder:{pictures}", progress=False)
    mixed, original = [], conditional._mix_outputs

    def mix_outputs(x, weights, experts, *others):
        # What is done to test may be exported.
        if not others[-1]:
            mixed.append(experts.shape[2:4])
        return original(x, weights, experts, *others)

    monkeypatch.setattr(conditional, "_mix_outputs", mix_outputs)
    losses, calls = [], []
    for what in ("kernels", "outputs"):
        losses.append(carry_out(tiny(pictures, mixing=what), dataset)["test_loss"])
        calls.append(mixed.count((3, 3)))
        mixed.clear()
    # Three steps of four layers with 3×3 kernels.
    assert calls == [0, 12]
    # The two round differently, and no more.
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_subset_is_the_same_each_time_and_all_if_there_are_no_more(pictures):
    dataset = load_dataset(f"folder:{pictures}", progress=False)
    part = subset(dataset, 10)
    assert len(part.train_images) == len(part.train_labels) == 10 and len(part.test_images) == 20
    assert np.array_equal(part.train_images, subset(dataset, 10).train_images)
    assert np.array_equal(part.train_images, subset(dataset, 20).train_images[:10])
    # Pictures keep their labels: the blue ones are class 0.
    blue = part.train_images[..., 2].mean(axis=(1, 2)) > part.train_images[..., 0].mean(axis=(1, 2))
    assert np.array_equal(part.train_labels, np.where(blue, 0, 1))
    assert len(subset(dataset, 1000).train_images) == 64


def test_all_runs_are_kept_and_what_fails_is_told(pictures, tmp_path):
    good, bad = tiny(pictures), tiny(pictures, batch_size=64, images=20)
    heard = []
    failed = carry_out_all([good, bad], tmp_path, 2, lambda run, share: heard.append((run.key, share)))
    assert set(failed) == {bad.key} and "too few" in failed[bad.key] and "Traceback" not in failed[bad.key]
    assert heard[-1] == (good.key, 1.0)
    result = finished(tmp_path, good)
    assert result["test_images"] == 20 and finished(tmp_path, bad) is None
    assert [path.name for path in (tmp_path / DONE).iterdir()] == [f"{good.key}.json"]


def test_what_is_no_result_of_this_run_is_not_taken_for_one(pictures, tmp_path):
    run = tiny(pictures)
    path = tmp_path / DONE / f"{run.key}.json"
    path.parent.mkdir()
    for content in ('{"run": ', "[]", '{"run": {}}'):
        path.write_text(content)
        assert finished(tmp_path, run) is None


def test_two_studies_in_one_folder(tmp_path):
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another study"):
            carry_out_all([], tmp_path, 1, print)
    assert carry_out_all([], tmp_path, 1, print) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_what_is_finished_and_leaves_no_process(pictures, tmp_path, number):
    command = [sys.executable, "-m", "condconv_mlx", "study", "--data", f"folder:{pictures}", "--out", str(tmp_path)]
    options = "--only routing --seeds 1 --images 48 --batch-size 16 --width 2".split()
    process = subprocess.Popen(
        [*command, *options, "--epochs", "5000"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (child := _child(process.pid)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in err and "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert not (tmp_path / DONE).exists()


def _child(parent):
    done = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True)
    return int(done.stdout.split()[0]) if done.stdout.split() else None
