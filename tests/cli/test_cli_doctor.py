"""`condconv-mlx doctor`."""

import json
import platform
import subprocess
import sys

import pytest

from condconv_mlx import _backend, cli, cpu, doctor


@pytest.fixture
def quick(monkeypatch):
    """No measuring."""
    speed = {"gflops": 99.4, "write_gb_per_s": 14.0, "plain_gflops": 5.2, "plain_write_gb_per_s": 1.9}
    monkeypatch.setattr(doctor, "_speed", lambda *_: speed)


@pytest.fixture
def mac(quick, monkeypatch):
    """A Mac with Apple silicon, as far as `doctor` can see."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.2", ("", "", ""), "arm64"))
    monkeypatch.setattr(cpu, "_status", None)
    monkeypatch.setattr(doctor, "_backends", lambda: ["mlx-metal 0.32.4"])


def problems(capsys) -> list[str]:
    status = cli.main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)["problems"]
    assert status == (1 if found else 0)
    return found


def test_it_says_what_is_here(capsys):
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("Python", platform.python_version(), "MLX", "Device", "BLAS", "GFLOP/s", "cifar10", "fashion_mnist"):
        assert word in shown
    assert "Everything that condconv-mlx needs is here." in shown


def test_json(quick, weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(weights))
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path))
    (tmp_path / "cifar10" / "cifar-10-batches-bin").mkdir(parents=True)
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["weights"] == ["colour", "grey", "static"]
    assert report["datasets"]["cifar10"] == str(tmp_path / "cifar10" / "cifar-10-batches-bin")
    assert report["mlx"]["device"] in ("cpu", "gpu")
    assert report["speed"]["gflops"] == 99.4


def test_a_healthy_mac(mac, capsys):
    assert problems(capsys) == []
    assert cli.main(["doctor"]) == 0
    assert "macOS 15.2" in capsys.readouterr().out


def test_rosetta_is_named(mac, monkeypatch, capsys):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    translated = subprocess.CompletedProcess([], 0, stdout="1\n")
    monkeypatch.setattr(_backend.subprocess, "run", lambda *_, **__: translated)
    (problem,) = problems(capsys)
    assert "Rosetta" in problem
    assert "arm64" in problem


def test_an_intel_mac_is_named(mac, monkeypatch, capsys):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    plain = subprocess.CompletedProcess([], 1, stdout="")
    monkeypatch.setattr(_backend.subprocess, "run", lambda *_, **__: plain)
    (problem,) = problems(capsys)
    assert "Intel" in problem
    assert "Rosetta" not in problem


def test_an_old_macos_is_named(mac, monkeypatch, capsys):
    monkeypatch.setattr(platform, "mac_ver", lambda: ("13.6.1", ("", "", ""), "arm64"))
    (problem,) = problems(capsys)
    assert "macOS 13.6.1" in problem
    assert "14" in problem


def test_an_old_python_is_named(quick, monkeypatch, capsys):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4, "final", 0))
    monkeypatch.setattr(platform, "python_version", lambda: "3.10.4")
    (problem,) = problems(capsys)
    assert "Python 3.10.4" in problem
    assert "3.11" in problem


def test_two_backends_are_named(quick, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_backends", lambda: ["mlx-cpu 0.32.4", "mlx-cuda-13 0.32.4"])
    (problem,) = problems(capsys)
    assert "pip uninstall mlx-cpu mlx-cuda-13" in problem


def test_it_works_without_mlx(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    monkeypatch.setattr(sys, "platform", "linux")
    (problem,) = problems(capsys)
    assert "[cpu]" in problem
    assert cli.main(["doctor", "--verify"]) == 1
    shown = capsys.readouterr().out
    assert "Device" in shown
    assert "What is wrong" in shown


def test_missing_openblas_is_advice_and_no_problem(quick, monkeypatch, capsys):
    status = cpu.CpuStatus("Linux x86_64", "reference BLAS bundled with MLX", True, ["install OpenBLAS"])
    monkeypatch.setattr(cpu, "_status", status)
    assert cli.main(["doctor"]) == 0
    assert "- install OpenBLAS" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="what tune_process gains is a matter of Linux")
def test_what_the_set_up_gains_is_measured():
    speed = doctor._speed("cpu")
    assert all(number is not None and number > 0 for number in speed.values())
