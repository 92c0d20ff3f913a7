"""What a run leaves for others to read while it goes on: its log, its status, its lock."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import mlx.core as mx
import pytest
from training_material import fresh

from condconv_mlx.training import Diverged, Stopped, TrainingSettings, read_log, run_status, stop_run, train
from condconv_mlx.training.log import LOG, append_line, drop_lines_after
from condconv_mlx.training.run_folder import LOCK, STATE, all_finite, locked, running_pid, saved_step

SETTINGS = TrainingSettings(epochs=2, batch_size=8, holdout=16, shift=1)


def test_a_run_writes_steps_and_epochs(dataset, tmp_path):
    train(fresh(), dataset, tmp_path, SETTINGS)
    log = read_log(tmp_path)
    assert log.start == {
        **{"kind": "start", "step": 0, "steps": 24, "steps_per_epoch": 12, "batch_size": 8},
        **{"device": log.start["device"], "processes": 1},
    }
    assert [line["step"] for line in log.steps] == list(range(1, 25))
    assert [line["epoch"] for line in log.epochs] == [1, 2] and [line["step"] for line in log.epochs] == [12, 24]
    assert log.steps[5]["epoch"] == 0.5 and log.end["reason"] == "finished"
    for line in (*log.steps, *log.epochs):
        assert line["images_per_second"] > 0 and line["memory_mb"] > 0 and line["seconds"] >= 0
    # One line a step here, so their means are those of the epoch.
    for number, epoch in enumerate(log.epochs):
        lines = log.steps[12 * number : 12 * number + 12]
        assert sum(line["loss"] for line in lines) / 12 == pytest.approx(epoch["loss"], abs=2e-5)
        assert sum(line["accuracy"] for line in lines) / 12 == pytest.approx(epoch["accuracy"], abs=2e-5)
        assert epoch["held_out_loss"] > 0 and 0 <= epoch["held_out_accuracy"] <= 1
    # Warm-up over the first epoch, then a cosine.
    assert [line["learning_rate"] for line in log.steps[:3]] == pytest.approx([0.1 / 12, 0.015972, 0.023611], rel=1e-3)
    assert log.epochs[1]["learning_rate"] == log.steps[-1]["learning_rate"] < 0.01
    status = run_status(tmp_path)
    assert (status.state, status.pid, status.step, status.steps, status.epoch) == ("finished", None, 24, 24, 2)


def test_an_epoch_of_many_steps_writes_about_twenty_lines(dataset, tmp_path):
    train(fresh(), dataset, tmp_path, TrainingSettings(epochs=1, batch_size=2, holdout=16, shift=1))
    lines = read_log(tmp_path).steps
    assert [line["step"] for line in lines] == list(range(2, 49, 2))


def test_torn_and_foreign_lines_are_passed_over(tmp_path):
    append_line(tmp_path, "start", 0, steps=9)
    append_line(tmp_path, "step", 1, loss=1.0)
    with open(tmp_path / LOG, "ab") as file:
        file.write(b'[1]\n{"epoch": 1, "loss": 2.0}\n\xff\xfe\n{"kind": "step", "st')
    log = read_log(tmp_path)
    assert [line["step"] for line in log.steps] == [1] and log.epochs == [{"epoch": 1, "loss": 2.0}]
    append_line(tmp_path, "step", 3, loss=1.0)
    assert len(read_log(tmp_path).steps) == 1, "what follows a torn line without a cut is lost with it"
    drop_lines_after(tmp_path, 1)
    append_line(tmp_path, "step", 2, loss=1.0)
    assert [line["step"] for line in read_log(tmp_path).steps] == [1, 2]
    assert all(json.loads(line) for line in (tmp_path / LOG).read_text().splitlines())


def test_there_may_be_no_run(tmp_path):
    log = read_log(tmp_path / "none")
    assert (log.start, log.steps, log.epochs, log.end) == (None, [], [], None)
    assert run_status(tmp_path / "none").state == "empty" and not stop_run(tmp_path / "none")
    assert saved_step(tmp_path) is None


def test_a_lock_tells_who_trains_and_keeps_others_out(dataset, tmp_path):
    with locked(tmp_path):
        assert running_pid(tmp_path) == os.getpid()
        with pytest.raises(ValueError, match=f"process {os.getpid()} is training"):
            train(fresh(), dataset, tmp_path, SETTINGS)
    assert running_pid(tmp_path) is None
    (tmp_path / LOCK).write_text("1")  # a number that some other process has
    assert running_pid(tmp_path) is None


def test_the_lock_of_a_killed_process_is_gone(tmp_path):
    code = "import sys, time; from pathlib import Path; from condconv_mlx.training.run_folder import locked\n"
    code += "with locked(Path(sys.argv[1])): print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    assert running_pid(tmp_path) == process.pid
    half = tmp_path / ".state.0123abcd.safetensors"
    half.write_text("half")
    process.kill()
    process.wait()
    assert running_pid(tmp_path) is None
    with locked(tmp_path):
        assert not half.exists()


@pytest.mark.parametrize("number, how", [(signal.SIGTERM, "stop_run"), (signal.SIGINT, "kill")])
def test_a_run_stops_saves_and_goes_on(dataset, tmp_path, number, how):
    # In the background of a script, SIGINT is ignored, and stays so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = []

    def ask(progress):
        steps.append(progress.step)
        if progress.step == 5:
            assert stop_run(tmp_path) if how == "stop_run" else os.kill(os.getpid(), number) is None

    try:
        with pytest.raises(Stopped) as stopped:
            train(fresh(), dataset, tmp_path, SETTINGS, on_progress=ask)
    finally:
        assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    assert stopped.value.signal == number and steps[-1] == 6 == saved_step(tmp_path)
    assert run_status(tmp_path).state == "stopped" and run_status(tmp_path).step == 6
    assert read_log(tmp_path).end["reason"] == "stopped"
    train(fresh(), dataset, tmp_path, SETTINGS, resume=True)
    log = read_log(tmp_path)
    assert [line["step"] for line in log.steps] == list(range(1, 25)) and log.end["reason"] == "finished"
    assert log.start["step"] == 6


def test_a_second_ctrl_c_does_not_wait(dataset, tmp_path, monkeypatch):
    from condconv_mlx.training import loop

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    real = loop.augment_batch

    def slow(*arguments):
        if saved_step(tmp_path) == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        return real(*arguments)

    monkeypatch.setattr(loop, "augment_batch", slow)
    try:
        with pytest.raises(KeyboardInterrupt) as stopped:
            train(fresh(), dataset, tmp_path, SETTINGS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isinstance(stopped.value, Stopped) and saved_step(tmp_path) == 0


def test_in_another_thread_signals_are_left_alone(dataset, tmp_path):
    handlers = []

    def look(progress):
        handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    settings = TrainingSettings(epochs=1, batch_size=48, holdout=16, shift=1)
    # The model has to be made on the thread that trains it.
    thread = threading.Thread(target=lambda: train(fresh(), dataset, tmp_path, settings, on_progress=look))
    thread.start()
    thread.join()
    assert handlers == [before] * 2


def test_checkpoints_within_an_epoch(dataset, tmp_path, monkeypatch):
    from condconv_mlx.training import loop

    saved = []

    def look(progress):
        saved.append(saved_step(tmp_path))

    settings = TrainingSettings(epochs=1, batch_size=8, holdout=16, shift=1, save_steps=5)
    train(fresh(), dataset, tmp_path / "a", settings, on_progress=lambda _: saved.append(saved_step(tmp_path / "a")))
    assert saved == [0] * 4 + [5] * 5 + [10] * 2 + [12]

    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    saved.clear()
    settings = TrainingSettings(epochs=1, batch_size=8, holdout=16, shift=1, save_minutes=2)
    train(fresh(), dataset, tmp_path / "b", settings, on_progress=lambda _: saved.append(saved_step(tmp_path / "b")))
    assert 0 < saved[-2] < 12


def test_a_loss_that_diverges_leaves_the_good_checkpoint(dataset, tmp_path):
    settings = TrainingSettings(
        epochs=3, batch_size=8, holdout=16, shift=1, learning_rate=1e12, warmup=3, save_steps=1, whiten=False
    )
    with pytest.raises(Diverged, match=r"finite at step \d+ \(epoch \d\)\. The last good checkpoint is") as error:
        train(fresh(), dataset, tmp_path, settings)
    assert "a lower learning rate than 1e+12, a longer warmup or a clip of 1" in str(error.value)
    step = saved_step(tmp_path)
    assert step is not None and f"that of step {step}," in str(error.value)

    assert all_finite(mx.load(str(tmp_path / STATE)))
    assert run_status(tmp_path).state == "failed" and run_status(tmp_path).message == str(error.value)


def test_a_weight_that_is_not_finite_is_not_saved(dataset, tmp_path):
    """The loss was still finite when a gradient was not."""
    model = fresh()

    def spoil(progress):
        if progress.step == 5:
            model.classifier.weight = model.classifier.weight + mx.array(float("inf"))
            raise KeyboardInterrupt

    with pytest.raises(Diverged, match="a weight is no longer finite at step 5 .*that of step 0"):
        train(model, dataset, tmp_path, SETTINGS, on_progress=spoil)
    assert saved_step(tmp_path) == 0 and not (tmp_path / "best.safetensors").exists()
