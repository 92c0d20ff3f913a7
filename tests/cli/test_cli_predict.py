"""`condconv-mlx predict`."""

import json

import numpy as np
import pytest

import condconv_mlx
from condconv_mlx import cli


@pytest.mark.parametrize("name", ["colour", "grey"])
def test_it_prints_classes_and_routing(name, weights, picture, capsys):
    assert cli.main(["predict", str(picture), "--model", str(weights / f"{name}.safetensors"), "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{picture}: ")
    assert all("%" in line and "█" in line for line in lines[1:4])
    assert lines[4].split() == ["routing", "weights", "1", "2", "3", "4"]
    assert "classifier.router" in lines[-1]
    assert len(lines) == 5 + 3


def test_a_static_network_has_no_routing(weights, picture, capsys):
    assert cli.main(["predict", str(picture), "--model", str(weights / "static.safetensors")]) == 0
    assert "routing" not in capsys.readouterr().out


def test_json_has_every_class_and_router(weights, picture, capsys):
    model = str(weights / "colour.safetensors")
    assert cli.main(["predict", str(picture), str(picture), "--model", model, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["model"] == model
    first, second = printed["images"]
    assert first == second
    probabilities = [entry["probability"] for entry in first["classes"]]
    assert len(probabilities) == 10
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities == sorted(probabilities, reverse=True)
    assert [len(router["weights"]) for router in first["routing"]] == [4, 4, 4]
    assert first["routing"][-1]["layers"] == ["classifier"]


def test_it_agrees_with_the_model(weights, picture, capsys):
    import mlx.core as mx

    from condconv_mlx.data import fit_image, normalise, open_image

    path = weights / "colour.safetensors"
    model = condconv_mlx.load_model(path)
    pixels = fit_image(open_image(picture), 32, 3)[None]
    wanted = np.array(mx.softmax(model(mx.array(normalise(pixels, [0.5] * 3, [0.25] * 3))), axis=-1))[0]
    cli.main(["predict", str(picture), "--model", str(path), "--json"])
    (answer,) = json.loads(capsys.readouterr().out)["images"]
    labels = model.info["labels"]
    for entry in answer["classes"]:
        assert entry["probability"] == pytest.approx(wanted[labels.index(entry["label"])], rel=1e-4)


def test_one_bad_image_does_not_stop_the_others(weights, picture, tmp_path, capsys):
    bad = tmp_path / "letter.txt"
    bad.write_text("Dear Sir")
    missing = tmp_path / "missing.png"
    model = str(weights / "colour.safetensors")
    assert cli.main(["predict", str(bad), str(picture), str(missing), "--model", model]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{picture}: ")
    assert [line.startswith("condconv-mlx: ") for line in captured.err.splitlines()] == [True, True]
    assert "letter.txt" in captured.err
    assert "missing.png" in captured.err

    assert cli.main(["predict", str(bad), str(picture), "--model", model, "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)["images"]
    assert "letter.txt" in first["error"]
    assert "classes" in second


def test_a_model_without_classes_is_refused(picture, tmp_path, capsys):
    path = tmp_path / "bare.safetensors"
    condconv_mlx.save_model(condconv_mlx.create_model("condconv_small", width=4), path)
    assert cli.main(["predict", str(picture), "--model", str(path)]) == 1
    assert "labels and input" in capsys.readouterr().err


def test_the_crop_and_interpolation_of_the_model_are_used(weights, tmp_path, capsys):
    import mlx.core as mx
    from PIL import Image

    from condconv_mlx.data import fit_image, normalise

    model = condconv_mlx.load_model(weights / "colour.safetensors")
    model.info["input"].update(crop=0.5, interpolation="bicubic")
    path = tmp_path / "cropped.safetensors"
    condconv_mlx.save_model(model, path)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    noise.save(tmp_path / "noise.png")
    pixels = fit_image(noise, 32, 3, crop=0.5, interpolation="bicubic")[None]
    model = condconv_mlx.load_model(path)
    wanted = np.array(mx.softmax(model(mx.array(normalise(pixels, [0.5] * 3, [0.25] * 3))), axis=-1))[0]
    cli.main(["predict", str(tmp_path / "noise.png"), "--model", str(path), "--json"])
    (answer,) = json.loads(capsys.readouterr().out)["images"]
    for entry in answer["classes"]:
        assert entry["probability"] == pytest.approx(wanted[model.info["labels"].index(entry["label"])], rel=1e-3)
