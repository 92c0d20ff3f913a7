"""A run killed at any moment goes on from its checkpoint and ends as one that was not."""

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from training_material import fresh, stripes_dataset

from condconv_mlx import load_model
from condconv_mlx.checkpoint import CheckpointError, read_arrays
from condconv_mlx.cpu import tune_process
from condconv_mlx.training import TrainingSettings, log, loop, read_log, run_folder, run_status, train
from condconv_mlx.training.run_folder import STATE

KILLS = 24
SETTINGS = TrainingSettings(
    epochs=16,
    batch_size=16,
    holdout=16,
    optimizer="adamw",
    learning_rate=0.002,
    ema=0.9,
    clip=1.0,
    shift=1,
    mixup=0.2,
    save_steps=2,
)
# Importing MLX takes longer than a sitting of the run. On macOS a process that has it should not fork.
context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(where, count, share):
    """Have this process killed at the `count`-th event of a kind, `share` of the way through what it writes."""
    left = [count]

    def due():
        left[0] -= 1
        return left[0] < 0

    real_save, real_replace = mx.save_safetensors, os.replace

    def save(path, *rest):
        real_save(path, *rest)
        if where == "writing weights" and due():
            os.truncate(path, int(share * os.path.getsize(path)))
            die()

    def replace(*paths):
        if where == "before a file is renamed" and due():
            die()
        real_replace(*paths)
        if where == "after a file was renamed" and due():
            die()

    def append_line(folder, kind, step, **content):
        if where == "writing the log" and kind != "start" and due():
            with open(folder / log.LOG, "a") as file:
                line = json.dumps({"kind": kind, "step": step, **content})
                file.write(line[: int(share * len(line))])
                file.flush()
                die()
        log.append_line(folder, kind, step, **content)

    mx.save_safetensors, os.replace, loop.append_line = save, replace, append_line


def sitting(folder, resume, steps, plan):
    tune_process()
    if plan:
        die_in(*plan)
    model = fresh(seed=3 if resume else 0, router_dropout=0.3)
    train(
        model,
        stripes_dataset(),
        folder,
        SETTINGS,
        resume=resume,
        on_progress=lambda progress: steps.send(progress.step),
    )


def sit(folder, resume, rng):
    """One sitting of the run; without `rng` to its end. Returns the exit status."""
    plan, last, delay = None, None, 0.0
    if rng is not None:
        kinds = ["writing weights", "before a file is renamed", "after a file was renamed", "writing the log", "any"]
        kind = kinds[rng.integers(len(kinds))]
        if kind == "any":
            last, delay = int(rng.integers(1, 4)), float(rng.uniform(0, 0.01))
        else:
            plan = (kind, int(rng.integers(0, 2)), float(rng.random()))
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=sitting, args=(folder, resume, send, plan))
    process.start()
    send.close()
    if last is not None:
        for _ in range(last):
            receive.recv()
        time.sleep(delay)
        process.kill()
    process.join(timeout=120)
    receive.close()
    return process.exitcode


@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="to the bit on a CPU alone")
def test_killed_at_random_moments_it_ends_in_the_same_weights(tmp_path):
    context.set_forkserver_preload(["condconv_mlx.training", "training_material"])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert sit(whole, False, None) == 0
    rng, kills = np.random.default_rng(0), 0
    while kills < KILLS:
        status = sit(killed, (killed / STATE).exists(), rng)
        assert status == -signal.SIGKILL
        kills += 1
    assert run_status(killed).state == "stopped"
    assert sit(killed, True, None) == 0

    (arrays, metadata), (wanted, wanted_metadata) = (read_arrays(run / STATE) for run in (killed, whole))
    assert arrays.keys() == wanted.keys() and any(name.startswith("average.") for name in arrays)
    for name, value in wanted.items():
        assert np.array_equal(np.array(arrays[name]), np.array(value)), name
    progress, wanted_progress = (json.loads(text["progress"]) for text in (metadata, wanted_metadata))
    assert progress | {"seconds": 0} == wanted_progress | {"seconds": 0}
    assert what_was_measured(killed) == what_was_measured(whole)
    best, wanted_best = (load_model(run / "best.safetensors") for run in (killed, whole))
    assert mx.array_equal(best.stem.weight, wanted_best.stem.weight)
    left = {path.name for path in killed.iterdir()}
    assert left == {"best.safetensors", "log.jsonl", "run.lock", "settings.json", STATE}


def what_was_measured(run):
    keys = ("step", "loss", "accuracy", "held_out_accuracy", "routing")
    found = read_log(run)
    return [{key: line.get(key) for key in keys} for line in [*found.steps, *found.epochs]]


def limited(folder, bytes_left):
    """Train on where no file may grow beyond so many bytes, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, resource.RLIM_INFINITY))
    try:
        train(fresh(), stripes_dataset(), folder, replace(SETTINGS, epochs=2), resume=True)
    except OSError as error:
        (folder / "said").write_text(str(error))
        os._exit(7)


def test_on_a_full_disk_the_checkpoint_stays_and_the_message_says_so(tmp_path):
    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(), stripes_dataset(), tmp_path, replace(SETTINGS, epochs=2), on_progress=interrupt)
    before = (tmp_path / STATE).read_bytes()
    process = context.Process(target=limited, args=(tmp_path, len(before) // 2))
    process.start()
    process.join(timeout=120)
    assert process.exitcode == 7
    said = (tmp_path / "said").read_text()
    assert (
        "could not be written" in said and "disk full" in said and "The last good checkpoint is that of step 3" in said
    )
    assert (tmp_path / STATE).read_bytes() == before
    assert run_status(tmp_path).state == "failed" and "disk full" in run_status(tmp_path).message
    summary = train(fresh(), stripes_dataset(), tmp_path, replace(SETTINGS, epochs=2), resume=True)
    assert summary["epochs"] == 2


def test_a_write_that_fails_half_way_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    settings = TrainingSettings(epochs=1, batch_size=16, holdout=16)
    real = mx.save_safetensors

    def torn(path, arrays, metadata):
        real(path, arrays, metadata)
        if json.loads(metadata.get("progress", "{}")).get("step", 0) > 0:
            os.truncate(path, 1000)
            raise RuntimeError("[write] Unable to write 5 bytes to file.")

    monkeypatch.setattr(mx, "save_safetensors", torn)
    with pytest.raises(OSError, match="Unable to write 5 bytes.*that of step 0"):
        train(fresh(), stripes_dataset(), tmp_path, settings)
    assert run_folder.saved_step(tmp_path) == 0
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_failed_before_its_first_step_may_begin_again(tmp_path):
    dataset = stripes_dataset()
    with pytest.raises(ValueError, match="shift must be"):
        train(fresh(), dataset, tmp_path, TrainingSettings(epochs=1, batch_size=16, holdout=16, shift=40))
    assert run_status(tmp_path).state == "failed"
    train(fresh(), dataset, tmp_path, TrainingSettings(epochs=1, batch_size=16, holdout=16))
    assert run_status(tmp_path).state == "finished"


def test_a_state_of_other_settings_is_refused(tmp_path):
    settings = TrainingSettings(epochs=1, batch_size=16, holdout=16)
    train(fresh(), stripes_dataset(), tmp_path, settings)
    with pytest.raises(CheckpointError, match="another setting of the moving average"):
        train(
            fresh(),
            stripes_dataset(),
            tmp_path,
            TrainingSettings(epochs=2, batch_size=16, holdout=16, ema=0.9),
            resume=True,
        )
