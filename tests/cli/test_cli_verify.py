"""`condconv-mlx doctor --verify`: agrees when all is well, and finds what is not."""

import json
import math

import pytest

from condconv_mlx import cli, doctor, layers
from condconv_mlx import functional as F
from condconv_mlx.functional import STRATEGIES, gradients
from condconv_mlx.verify import verify


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "_speed", lambda *_: None)


def wrong() -> set[str]:
    return {check.name for check in verify() if not check.passed}


def test_everything_agrees(quick, capsys):
    assert cli.main(["doctor", "--verify"]) == 0
    shown = capsys.readouterr().out
    assert "WRONG" not in shown
    for name in (
        "mix_experts",
        "conv2d_per_example",
        "cond_conv2d",
        "CondConv2d",
        "CondConv1d",
        "CondLinear",
        "Router",
    ):
        assert name in shown
    for name in (*F.STRATEGIES, "float32", "float16", "bfloat16"):
        assert name in shown


def test_a_wrong_output_is_found(quick, monkeypatch, capsys):
    right = F.mix_experts
    monkeypatch.setattr(F, "mix_experts", lambda routing_weights, experts: 1.2 * right(routing_weights, experts))
    assert cli.main(["doctor", "--verify", "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["verify"]
    assert [check["name"] for check in checks if not check["passed"]] == ["mix_experts"] * 3
    assert [check["dtype"] for check in checks if not check["passed"]] == ["float32", "float16", "bfloat16"]


def test_a_wrong_gradient_is_found(monkeypatch):
    right = gradients._kernel_gradients
    monkeypatch.setattr(
        gradients,
        "_kernel_gradients",
        lambda *arguments: [(1.2 * gradient, part) for gradient, part in right(*arguments)],
    )
    found = wrong()
    assert {"conv2d_per_example, unfold", "conv2d_per_example, auto", "cond_conv2d, unfold", "CondConv2d"} <= found
    assert not {"mix_experts", "Router"} & found


def test_a_wrong_strategy_is_found(monkeypatch):
    right = STRATEGIES["unfold"]
    monkeypatch.setitem(STRATEGIES, "unfold", lambda x, kernels, geometry: 1.2 * right(x, kernels, geometry))
    found = wrong()
    assert {"conv2d_per_example, unfold", "conv2d_per_example, auto", "cond_conv2d, unfold", "CondConv2d"} <= found
    assert not {"mix_experts", "conv2d_per_example, shift", "conv2d_per_example, loop", "Router"} & found


def test_a_wrong_layer_is_found(monkeypatch):
    monkeypatch.setattr(layers.CondLinear, "__call__", lambda self, x: x @ self.weight[0].T + self.bias[0])
    assert wrong() == {"CondLinear"}


def test_a_function_that_fails_is_found(quick, monkeypatch, capsys):
    def fails(*_, **__):
        raise RuntimeError("no kernel of that name")

    monkeypatch.setattr(F, "conv2d", fails)
    assert cli.main(["doctor", "--verify"]) == 1
    assert "no kernel of that name" in capsys.readouterr().out
    assert any(math.isinf(check.error) for check in verify() if check.name == "conv2d")


def test_a_strategy_that_refuses_everything_does_not_pass(monkeypatch):
    def refuses(*_):
        raise ValueError("not for this one")

    monkeypatch.setitem(STRATEGIES, "shift", refuses)
    assert {"conv2d_per_example, shift", "cond_conv2d, shift"} <= wrong()
