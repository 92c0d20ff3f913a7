"""The CPU set-up: once, harmless, and honest about what is missing."""

import ctypes
import os
import subprocess
import sys

import mlx.core as mx
import pytest

from condconv_mlx import cpu

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="macOS needs no set-up")


def python(code: str, **environment: str) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout


def test_a_second_call_changes_nothing():
    assert cpu.tune_process() is cpu.tune_process()
    assert cpu.cpu_status() is cpu.tune_process()


@linux_only
def test_the_tests_run_as_our_commands_do():
    status = cpu.tune_process()
    assert status.platform.startswith("Linux")
    if cpu._find_openblas():
        assert status.blas.startswith("OpenBLAS ")
        assert status.advice == []
    if hasattr(ctypes.CDLL(None), "mallopt"):
        assert status.memory_kept


@linux_only
def test_importing_the_library_changes_nothing():
    code = "import condconv_mlx; condconv_mlx.CondConv2d; from condconv_mlx.cpu import cpu_status; print(cpu_status())"
    assert "memory_kept=False" in python(code)


@linux_only
def test_openblas_is_not_taken_too_late():
    code = "import mlx.core; from condconv_mlx.cpu import tune_process; print(tune_process())"
    status = python(code)
    assert "memory_kept=True" in status or not hasattr(ctypes.CDLL(None), "mallopt")
    if "reference BLAS" in status and cpu._find_openblas():
        assert "before anything imports MLX" in status


@linux_only
@pytest.mark.skipif(not cpu._find_openblas(), reason="no OpenBLAS here")
def test_one_core_is_one_part_and_nobody_needs_to_be_cut():
    code = """
import os
from condconv_mlx import cpu
allowed = len(os.sched_getaffinity(0))
before = cpu.parts()
status = cpu.tune_process({})
print(before, allowed, status.cores, status.parts, cpu.blas_threads(), cpu.parts())
cpu.set_blas_threads(2)
print(cpu.parts())
"""
    (before, allowed, cores, parts, threads, now), (then,) = (
        [int(word) for word in line.split()] for line in python(code.format("")).splitlines()
    )
    assert (before, parts, now, then) == (1, min(cores, 4), parts, 1)
    assert cores <= allowed
    assert threads == 1 or parts == 1
    for argument, environment in (("False", {}), ("", {"OPENBLAS_NUM_THREADS": "1"})):
        (_, _, cores, parts, threads, now), _ = (
            [int(word) for word in line.split()] for line in python(code.format(argument), **environment).splitlines()
        )
        assert (parts, now) == (1, 1)
        assert threads == cores


@linux_only
@pytest.mark.skipif(not cpu._find_openblas(), reason="no OpenBLAS here")
@pytest.mark.skipif("avx2" not in cpu._instructions(), reason="this processor has nothing newer")
def test_a_processor_that_openblas_does_not_know_is_used_in_full():
    code = """
import os
from condconv_mlx import cpu
cpu._find_openblas()  # loads it, with the core of the environment
if {forget}:
    del os.environ["OPENBLAS_CORETYPE"]
print(cpu.tune_process().blas, os.environ.get("OPENBLAS_CORETYPE"))
import mlx.core as mx
a = mx.random.normal((257, 300))
wanted = (a[:, None].astype(mx.float32) * a[None]).sum(axis=2)
print(float(mx.abs(a @ a.T - wanted).max()) < 1e-3)
"""
    told, right = python(code.format(forget=True), OPENBLAS_CORETYPE="Prescott").splitlines()
    core, environment = told.split()[-2:]
    assert core in cpu._CORES
    assert cpu._CORES[core] <= cpu._instructions()
    assert (environment, right) == ("None", "True")
    # What the user says counts.
    told, right = python(code.format(forget=False), OPENBLAS_CORETYPE="Prescott").splitlines()
    assert told.split()[-2:] == ["Prescott", "Prescott"]
    assert right == "True"


@pytest.mark.parametrize(("allowed", "blas", "wanted"), [(2, 2, 2), (8, 8, 4), (8, 3, 3), (3, 8, 3), (1, 1, 1)])
def test_parts_are_the_cores_that_both_the_system_and_openblas_grant(monkeypatch, allowed, blas, wanted):
    threads = [blas]
    monkeypatch.setattr(cpu, "_status", None)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(allowed), raising=False)
    monkeypatch.setattr(cpu, "_find_openblas", lambda: None)
    monkeypatch.setattr(cpu, "_openblas_version", lambda: "OpenBLAS 1.2")
    monkeypatch.setattr(cpu, "blas_threads", lambda: threads[0])
    monkeypatch.setattr(cpu, "set_blas_threads", lambda count: threads.append(count))
    monkeypatch.setattr(cpu, "_counter", lambda: lambda: threads[-1])
    status = cpu.tune_process()
    assert (status.cores, status.parts, cpu.parts()) == (min(allowed, blas), wanted, wanted)
    assert threads == ([blas, 1] if wanted > 1 else [blas])
    threads.append(2)
    assert cpu.parts() == 1


def test_macos_needs_nothing(monkeypatch):
    monkeypatch.setattr(cpu, "_status", None)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: pytest.fail("nothing is to be loaded"))
    assert cpu.tune_process().blas == "Accelerate"
    assert cpu.tune_process().advice == []


@pytest.fixture
def without_openblas(monkeypatch):
    monkeypatch.setattr(cpu, "_status", None)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cpu, "_find_openblas", lambda: None)
    monkeypatch.setattr(cpu, "_openblas_version", lambda: None)
    monkeypatch.setattr(cpu, "_bundles_reference_blas", lambda: True)


@pytest.mark.parametrize(
    ("tools", "wanted"),
    [
        (["apt"], ["apt install libopenblas0-pthread"]),
        (["dnf"], ["dnf install openblas-threads"]),
        (["pacman"], ["pacman -S openblas"]),
        ([], ["apt", "dnf", "pacman"]),
    ],
)
def test_advice_names_the_package_of_this_system(without_openblas, monkeypatch, tools, wanted):
    monkeypatch.setattr(cpu.shutil, "which", lambda tool: tool if tool in tools else None)
    status = cpu.tune_process()
    assert status.blas == "reference BLAS bundled with MLX"
    (sentence,) = status.advice
    assert all(word in sentence for word in wanted)
    assert ("pacman" in sentence) == ("pacman" in (tools or ["pacman"]))


def test_a_c_library_without_mallopt_is_no_failure(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: object())
    assert cpu._keep_memory() is False


def test_the_hint_is_given_once(without_openblas, monkeypatch, capsys):
    monkeypatch.setattr(cpu, "_hinted", False)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    cpu.hint_once()
    cpu.hint_once()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("condconv-mlx: ")


def test_a_gpu_gets_no_hint(without_openblas, monkeypatch, capsys):
    monkeypatch.setattr(cpu, "_hinted", False)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    cpu.hint_once()
    assert capsys.readouterr().err == ""


def test_speeds_are_measured():
    assert cpu.measure_gflops(64, seconds=0.01) > 0
    assert cpu.measure_write_speed(1, seconds=0.01) > 0
