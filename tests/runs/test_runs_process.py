"""Training as a process of its own: it outlives who started it, has its name for itself, and says what went wrong."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from runs_material import make_run

from condconv_mlx.runs import process as runs_process
from condconv_mlx.runs.finding import delete, find_runs
from condconv_mlx.runs.process import (
    OUTPUT,
    STARTED,
    again,
    alive,
    check_name,
    free_name,
    resume,
    said,
    start,
    started,
    stop,
)

TINY = "--width 4 --experts 2 --batch-size 8 --holdout 8 --shift 1 --learning-rate 0.05".split()
SECONDS = 120


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path / "cache"))


def until(condition):
    """Wait until it holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def state(folder):
    (run,) = find_runs(folder)
    return run.status.state


def test_a_run_is_started_stopped_and_goes_on(pictures, tmp_path):
    folder = tmp_path / "runs"
    path = start(folder, "birds", ["--data", f"folder:{pictures}", *TINY, "--epochs", "2000"], {"data": "birds"})
    try:
        (run,) = find_runs(folder)
        # Before its settings are written: what was asked for.
        assert run.name == "birds" and run.under_way
        assert started(path).command[:3] == ["condconv-mlx", "train", "--background"]
        with pytest.raises(ValueError, match="being started already|is training in birds already"):
            resume(path)
        with pytest.raises(ValueError, match="stop it first"):
            delete(run)
        until(lambda: find_runs(folder)[0].status.state == "running" and len(find_runs(folder)[0].log.epochs) > 1)
        run = find_runs(folder)[0]
        assert run.seconds_left > 0 and run.settings["data"] == f"folder:{pictures}"
        # A session of its own: what ends the terminal of who started it does not reach it.
        assert os.getsid(run.status.pid) == run.status.pid != os.getsid(0)
        assert stop(path)
    finally:
        stop(path)
        until(lambda: not alive(path))
    assert state(folder) == "stopped" and not stop(path)
    done = len(find_runs(folder)[0].log.epochs)
    resume(path, done + 1)
    until(lambda: not alive(path))
    run = find_runs(folder)[0]
    assert run.status.state == "finished" and len(run.log.epochs) == done + 1 and run.test_accuracy is not None
    assert delete(run) == [] and not path.exists()


def test_names_are_free_also_when_many_start_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(runs_process, "PYTHON", [sys.executable, "-c", ""])
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: start(tmp_path, "birds", [], {}), range(8)))
    names = ["birds", *(f"birds-{number}" for number in range(2, 9))]
    assert sorted(path.name for path in paths) == sorted(names)
    assert free_name(tmp_path, "birds") == "birds-9" and free_name(tmp_path, "cats") == "cats"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a\nb", "x" * 81, "ends ", "-x"])
def test_names_that_no_folder_may_have(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be called"):
        start(tmp_path, name, [], {})
    assert not list(tmp_path.iterdir())


def test_names_that_are_good():
    for name in ("birds", "Vögel 2", "a.b+c-d_e", "x" * 80):
        check_name(name)


def test_what_goes_wrong_before_the_first_step_is_said(pictures, tmp_path):
    options = ["--data", f"folder:{tmp_path / 'nowhere'}", *TINY, "--epochs", "1"]
    path = start(tmp_path / "runs", "lost", options, {"data": "birds"})
    until(lambda: not alive(path))
    (run,) = find_runs(tmp_path / "runs")
    assert run.status.state == "failed" and "there is no folder" in run.status.message
    assert run.settings["data"] == "birds" and "Traceback" not in " ".join(said(path))
    # Once the folder is there, it may be tried again.
    shutil.copytree(pictures, tmp_path / "nowhere")
    again(path)
    until(lambda: not alive(path))
    (run,) = find_runs(tmp_path / "runs")
    assert run.status.state == "finished" and run.settings["training.epochs"] == 1
    assert delete(run) == [] and not path.exists()


def test_what_goes_wrong_when_a_run_goes_on_is_said(tmp_path):
    folder = tmp_path / "runs"
    make_run(folder / "one", end="stopped")
    resume(folder / "one")
    until(lambda: not alive(folder / "one"))
    (run,) = find_runs(folder)
    # Its state is a thousand zeros.
    assert run.status.state == "failed" and "state.safetensors" in run.status.message
    assert len(run.log.epochs) == 3


def process_in(path, script):
    """Another program in the place of training, as if it had been started there."""
    path.mkdir(parents=True, exist_ok=True)
    output = open(path / OUTPUT, "a+")
    fcntl.flock(output, fcntl.LOCK_EX)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=output, stderr=output)
    output.close()
    (path / STARTED).write_text(json.dumps({"command": [], "pid": process.pid, "settings": {"data": "x"}}))
    return process


def test_states_of_a_process_that_does_not_train(tmp_path):
    sleeping = "import time; time.sleep(600)"
    # Not yet training, and over before it did.
    process = process_in(tmp_path / "one", sleeping)
    assert state(tmp_path) == "starting"
    assert stop(tmp_path / "one")
    assert process.wait(SECONDS) == -signal.SIGTERM
    (run,) = find_runs(tmp_path)
    assert run.status.state == "failed" and "without a word" in run.status.message
    assert not stop(tmp_path / "one")


def test_a_run_that_measures_its_model_at_the_end(tmp_path):
    make_run(tmp_path / "one", changed=2e9)
    os.utime(tmp_path / "one" / "log.jsonl")
    process = process_in(tmp_path / "one", "import time; time.sleep(600)")
    try:
        os.utime(tmp_path / "one" / STARTED, (1e9, 1e9))
        assert state(tmp_path) == "ending"
        # The log is that of an earlier sitting.
        os.utime(tmp_path / "one" / STARTED)
        assert state(tmp_path) == "starting"
    finally:
        process.kill()
        process.wait()
    assert state(tmp_path) == "finished"


def test_a_crash_is_told_by_its_last_line(tmp_path):
    process = process_in(tmp_path / "one", "raise RuntimeError('[metal::malloc] too large')")
    process.wait(SECONDS)
    (run,) = find_runs(tmp_path)
    assert (run.status.state, run.status.message) == ("failed", "RuntimeError: [metal::malloc] too large")


def test_of_a_progress_bar_the_latest_state_counts(tmp_path):
    (tmp_path / OUTPUT).write_bytes(b"x" * 9000 + b"\nloaded\n\r  0%\r 50%\r100%\n")
    assert said(tmp_path)[-2:] == ["loaded", "100%"]
