"""A run as a guest on the user's machine."""

import mlx.core as mx
import pytest
from training_material import fresh

from condconv_mlx.training import TrainingSettings, machine, train


def test_a_mac_is_kept_awake_as_long_as_the_process_lives(monkeypatch):
    started = []
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.shutil, "which", {"caffeinate": "/usr/bin/caffeinate"}.get)
    monkeypatch.setattr(machine.os, "getpid", lambda: 4321)
    monkeypatch.setattr(machine.subprocess, "Popen", lambda command, **_: started.append(command))
    machine.keep_awake()
    assert started == [["/usr/bin/caffeinate", "-i", "-w", "4321"]]
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine.keep_awake() is None and len(started) == 1


def test_the_cache_is_limited_to_what_is_said_or_to_a_quarter(monkeypatch):
    limits = []
    monkeypatch.setattr(machine.mx, "set_cache_limit", limits.append)
    monkeypatch.setattr(machine.mx, "device_info", lambda: {"memory_size": 16 * 2**30})
    assert machine.limit_cache(1.5) == 1_500_000_000 and machine.limit_cache(None) == 4 * 2**30
    assert machine.limit_cache(0) == 0
    monkeypatch.setattr(machine.mx, "device_info", lambda: {"device_name": "a CPU"})
    assert machine.limit_cache(None) == 0
    assert limits == [1_500_000_000, 4 * 2**30, 0]


def test_training_sets_the_limit(dataset, tmp_path):
    before = mx.set_cache_limit(2**30)
    try:
        train(fresh(), dataset, tmp_path, TrainingSettings(epochs=1, batch_size=48, holdout=16, cache_gb=0.25))
        assert mx.set_cache_limit(before) == 250_000_000
    finally:
        mx.set_cache_limit(before)


def test_rest_is_its_share_of_the_time(monkeypatch):
    slept = []
    monkeypatch.setattr(machine.time, "sleep", slept.append)
    machine.rest(0.0, 3.0)
    machine.rest(0.25, 3.0)
    assert slept == [pytest.approx(1.0)]


def test_a_run_rests_after_every_step(dataset, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(machine.time, "sleep", slept.append)
    train(fresh(), dataset, tmp_path, TrainingSettings(epochs=1, batch_size=48, holdout=16, rest=0.5))
    assert len(slept) == 2 and all(seconds > 0 for seconds in slept)


def test_stepping_back_is_niceness(monkeypatch):
    asked = []
    monkeypatch.setattr(machine.os, "nice", asked.append)
    machine.step_back()
    assert asked == [10]
