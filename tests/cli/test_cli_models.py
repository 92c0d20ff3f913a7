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


def test_networks_with_multiply_adds(weights, monkeypatch, capsys):
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(weights))
    assert cli.main(["models", "--experts", "4"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  efficientnet_b0")]
    assert line.split() == "efficientnet_b0 224×224 385.8 M 5,288,548 396.5 M 13,314,116".split()
    assert cli.main(["models", "--experts", "none"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  mnasnet_a1")]
    assert line.split() == "mnasnet_a1 224×224 311.6 M 3,887,038".split()


def test_one_network_by_layer(capsys):
    assert cli.main(["models", "mobilenet_v2", "--json", "--size", "64"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["input_shape"] == [64, 64, 3] and printed["experts"] == 8
    assert sum(layer["madds"] for layer in printed["layers"]) == printed["multiply_adds"]
    assert cli.main(["models", "mobilenet_v2", "--size", "64"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(printed["layers"]) + 3 and shown[0] == "mobilenet_v2, 8 experts, for one image of 64×64×3"
    assert shown[-1].split() == ["all", f"{printed['multiply_adds']:,}", "27,457,768"]


def test_weights_by_layer(weights, monkeypatch, capsys):
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(weights))
    for name in ("colour", str(weights / "colour.safetensors")):
        assert cli.main(["models", name, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["network"], printed["experts"]) == ("condconv_small", 4)


def test_weights_of_the_hub_are_counted_without_them(monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert cli.main(["models", "tf_efficientnet_cc_b1_8e"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "tf_efficientnet_cc_b1_8e, 8 experts, for one image of 240×240×3"
    assert shown[-1].split()[-1] == "39,715,968"


def test_wrong_arguments(capsys):
    assert cli.main(["models", "mobilenet-v2"]) == 1
    assert "Did you mean mobilenet_v2" in capsys.readouterr().err
    assert cli.main(["models", "--experts", "0"]) == 2
    assert cli.main(["models", "--size", "x"]) == 2
    assert "number above 0" in capsys.readouterr().err
