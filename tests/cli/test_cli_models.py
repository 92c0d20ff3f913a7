"""`condconv-mlx models`."""

import json

from condconv_mlx import cli


def test_it_lists_weights_and_networks(weights, monkeypatch, capsys):
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(weights))
    assert cli.main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "condconv_small" in shown
    assert "91.23%" in shown
    (static,) = [line for line in shown.splitlines() if line.startswith("  static")]
    assert static.split()[1:4] == ["condconv_small", "static", "cifar10"]


def test_json(weights, monkeypatch, capsys):
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(weights))
    assert cli.main(["models", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    colour, grey, static = printed["weights"]
    assert (colour["experts"], grey["dataset"], static["experts"]) == (4, "fashion_mnist", None)
    assert colour["bytes"] == (weights / "colour.safetensors").stat().st_size
    assert colour["parameters"] > static["parameters"]
    (small,) = [network for network in printed["networks"] if network["name"] == "condconv_small"]
    assert small["parameters"] > small["static_parameters"] > 100_000


def test_no_weights_are_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    assert cli.main(["models"]) == 0
    assert "none" in capsys.readouterr().out
