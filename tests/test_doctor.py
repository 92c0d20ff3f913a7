"""The report where MLX belongs to another thread than the one that asks."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from condconv_mlx import cpu, doctor


def test_all_that_mlx_computes_is_called_in_short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, spent, calls = [False], [], []

    def measured(*_: int, seconds: float) -> float:
        assert inside[0]
        spent.append(seconds)
        return float(len(spent))

    def call(function: Callable[[], Any]) -> Any:
        assert not inside[0]
        calls.append(function)
        inside[0] = True
        try:
            return function()
        finally:
            inside[0] = False

    monkeypatch.setattr(cpu, "measure_gflops", measured)
    monkeypatch.setattr(cpu, "measure_write_speed", measured)
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: pytest.fail("a process") if inside[0] else _Plain)
    report = doctor.examine(call)
    assert max(spent) <= 0.1
    # The best of its pieces counts.
    assert report["speed"]["gflops"] == doctor._TURNS
    assert len(calls) == len(spent) + 2
    assert json.loads(json.dumps(report)) == report
    assert dict(doctor.rows(report))["condconv-mlx"] == report["version"]


class _Plain:
    returncode = 0
    stdout = "5.2 1.9"
