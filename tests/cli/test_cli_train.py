"""`train` and `evaluate`, on a folder of tiny pictures."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx import data, load_model
from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.cli import main
from condconv_mlx.cli.training_arguments import flag
from condconv_mlx.training import TrainingSettings, read_log

TINY = "--width 4 --experts 2 --batch-size 8 --holdout 8 --epochs 2 --shift 1 --learning-rate 0.05".split()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path / "cache"))


def test_train_then_evaluate_say_the_same(pictures, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--data", f"folder:{pictures}", "--out", str(run), "--json", *TINY]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert "images/s" in err and "loss" in err
    assert summary["model"] == str(run / "best.safetensors")

    assert main(["evaluate", summary["model"], "--data", f"folder:{pictures}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"] == summary["test_accuracy"] and result["images"] == 20
    assert sum(map(sum, result["confusion"])) == 20 and set(result["by_class"]) == {"blue", "red"}

    assert main(["evaluate", summary["model"], "--data", f"folder:{pictures}"]) == 0
    text = capsys.readouterr().out
    assert f"{result['accuracy']:.2%} of 20 test images right ({result['correct']})" in text and "red" in text


def test_a_small_folder_holds_out_a_tenth(pictures, tmp_path, capsys):
    run = tmp_path / "run"
    options = "--width 4 --experts 2 --batch-size 8 --epochs 1 --shift 1".split()
    assert main(["train", "--data", f"folder:{pictures}", "--out", str(run), *options]) == 0
    assert json.loads((run / "settings.json").read_text())["training"]["holdout"] == 6


def test_a_run_names_what_could_not_be_read(pictures, tmp_path, capsys):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "train" / "red" / "broken.png").write_bytes(b"no picture")
    run = tmp_path / "run"
    assert main(["train", "--data", f"folder:{folder}", "--out", str(run), *TINY, "--epochs", "1"]) == 0
    assert "1 of 85 pictures could not be read" in capsys.readouterr().err
    (name,) = json.loads((run / "settings.json").read_text())["skipped"]
    assert name.endswith("red/broken.png")


def test_another_network_gets_a_stem_for_small_images(pictures, tmp_path, capsys):
    run = tmp_path / "run"
    options = "--model mobilenet_v1 --width 0.25 --experts 2 --batch-size 8 --holdout 8 --epochs 1".split()
    assert main(["train", "--data", f"folder:{pictures}", "--out", str(run), *options]) == 0
    config = json.loads((run / "settings.json").read_text())["config"]
    assert config["small_images"] and config["width"] == 0.25
    assert main(["train", "--data", f"folder:{pictures}", "--out", str(tmp_path / "other"), "--width", "0.5"]) == 1
    assert "width must be an integer" in capsys.readouterr().err


def test_interrupt_saves_and_resume_goes_on(pictures, tmp_path, capsys):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "condconv_mlx", "train", "--data", f"folder:{pictures}", "--out", str(run)]
    process = subprocess.Popen(
        [*command, *TINY, "--epochs", "300"],
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a script, the shell has them ignore it, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not read_log(run).epochs and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"condconv-mlx train --resume {run}" in err and "Traceback" not in err

    done = len(read_log(run).epochs)
    assert main(["train", "--resume", str(run), "--epochs", str(done + 1)]) == 0
    assert len(read_log(run).epochs) == done + 1
    assert json.loads((run / "settings.json").read_text())["training"]["epochs"] == done + 1
    assert "test images" in capsys.readouterr().out


def test_a_trained_network_gets_new_classes(weights, pictures, tmp_path, capsys):
    """Its classifier alone is trained, on images of its own size; resumed it goes on so, and `predict` takes it."""
    run, start = tmp_path / "run", str(weights / "colour.safetensors")
    options = "--freeze --batch-size 8 --epochs 1 --shift 1 --json".split()
    data = f"folder:{pictures}"
    assert main(["train", "--data", data, "--from", start, "--out", str(run), *options]) == 0
    summary = json.loads(capsys.readouterr().out)
    old, new = load_model(start), load_model(summary["model"])
    assert new.info["labels"] == ["blue", "red"] and new.config["num_classes"] == 2
    wanted = {key: old.info["input"][key] for key in ("size", "channels", "mean", "std")}
    assert new.info["input"] == wanted
    settings = json.loads((run / "settings.json").read_text())
    assert settings["pretrained"] == {"from": start, "input": wanted} and settings["training"]["freeze"]
    assert settings["data"] == f"{data}?size={wanted['size']}"
    assert settings["training"]["learning_rate"] == pytest.approx(0.01)
    assert main(["train", "--resume", str(run), "--epochs", "2", "--background"]) == 0
    again = load_model(summary["model"])
    for name, value in named_arrays(again).items():
        if not name.startswith("classifier."):
            assert mx.array_equal(value, named_arrays(new)[name]), name
    assert json.loads((run / "settings.json").read_text())["training"]["rest"] == 0.1
    picture = next((pictures / "test" / "red").iterdir())
    assert main(["predict", str(picture), "--model", summary["model"]]) == 0
    assert "red" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--from", "COLOUR", "--experts", "4", "--norm", "group"], 2, "leave out --experts --norm"),
        (["--from", "COLOUR", "--data", "cifar10"], 1, "takes images of"),
        (["--freeze"], 2, "--freeze is for --from"),
        (["--from", "/nowhere.safetensors"], 1, "/nowhere.safetensors"),
        (["--temperature", "30", "--temperature-epochs", "2"], 2, "--temperature is for --routing softmax"),
        (["--routing", "softmax", "--temperature", "30"], 2, "belong together"),
        (["--accumulate", "3", "--batch-size", "8"], 2, "cannot be divided into 3 parts"),
        (["--mixup", "-1"], 2, "mixup must be"),
        (["--model", "resnet50", "--width", "8"], 1, "no such setting"),
    ],
)
def test_mistakes_with_newer_options(weights, pictures, tmp_path, capsys, monkeypatch, arguments, status, says):
    from condconv_mlx.data import Dataset

    images, labels = np.zeros((40, 28, 28, 3), dtype=np.uint8), np.arange(40, dtype=np.int32) % 2
    small = Dataset("small", ["a", "b"], images, labels, images, labels, "made here")
    monkeypatch.setattr(data, "load_dataset", given(small))
    arguments = [str(weights / "colour.safetensors") if word == "COLOUR" else word for word in arguments]
    base = ["train", "--out", str(tmp_path / "run"), "--data", f"folder:{pictures}"]
    assert main([*base, *arguments]) == status
    err = capsys.readouterr().err
    assert says in err.splitlines()[-1] and "Traceback" not in err


def given(dataset):
    """`load_dataset`, with another data set where one would be downloaded."""
    real = data.load_dataset
    return lambda spec, *more, **named: real(spec, *more, **named) if spec.startswith("folder:") else dataset


def test_every_setting_can_be_set_and_reaches_the_run(pictures, tmp_path, capsys, monkeypatch):
    """All flags at once: what is recorded is what was said."""
    monkeypatch.setattr(os, "nice", lambda _: None)
    said = {
        **{"epochs": 1, "batch_size": 8, "optimizer": "adamw", "learning_rate": 0.001, "schedule": "one-cycle"},
        **{"weight_decay": 0.01, "decay": "kernels", "warmup": 0.5, "clip": 1.0, "ema": 0.9, "label_smoothing": 0.2},
        **{"balance": 0.1, "temperature": 5.0, "temperature_epochs": 0.5, "mixing": "outputs"},
        **{
            "precision": "bfloat16",
            "accumulate": 2,
            "checkpointing": True,
            "sync_norm": True,
            "shift": 1,
            "flip": False,
        },
        **{"cutout": 3, "mixup": 0.2, "cutmix": 1.0, "jitter": 0.1, "hue": 0.2, "policy": 1, "magnitude": 5.0},
        **{"whiten": False},
        **{"holdout": 8, "seed": 3, "save_minutes": 1.0, "save_steps": 2, "cache_gb": 0.5, "rest": 0.01},
    }
    assert said.keys() | {"freeze"} == {field.name for field in fields(TrainingSettings)}
    flags = []
    for name, value in said.items():
        flags += [flag(name)] if isinstance(value, bool) else [flag(name), str(value)]
    run = tmp_path / "run"
    base = ["train", "--data", f"folder:{pictures}", "--out", str(run), "--width", "4", "--experts", "2"]
    assert main([*base, *flags, "--routing", "softmax", "--router-dropout", "0.1", "--norm", "group"]) == 0
    recorded = json.loads((run / "settings.json").read_text())
    assert recorded["training"] == said | {"freeze": False}
    assert recorded["config"]["norm"] == "group" and recorded["config"]["routing"] == "softmax"
    assert recorded["config"]["router_dropout"] == 0.1


def test_what_is_of_the_machine_may_change_when_a_run_goes_on(pictures, tmp_path, capsys, monkeypatch):
    lowered = []
    monkeypatch.setattr(os, "nice", lowered.append)
    run = tmp_path / "run"
    assert main(["train", "--data", f"folder:{pictures}", "--out", str(run), *TINY]) == 0
    assert not lowered
    more = "--epochs 3 --save-minutes 9 --save-steps 1 --cache-gb 1 --rest 0.2 --background".split()
    assert main(["train", "--resume", str(run), *more]) == 0
    recorded = json.loads((run / "settings.json").read_text())["training"]
    wanted = {"epochs": 3, "save_minutes": 9, "save_steps": 1, "cache_gb": 1, "rest": 0.2}
    assert {name: recorded[name] for name in wanted} == wanted and lowered == [10]
    assert main(["train", "--resume", str(run), "--mixup", "0.2", "--from", "x", "--no-whiten"]) == 2
    assert "leave out --from --mixup --no-whiten" in capsys.readouterr().err


def test_the_help_is_in_groups_and_says_what_is_recommended(capsys):
    assert main(["train", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for group in ("data and run:", "network:", "optimisation:", "routing:", "augmentation:", "machine:"):
        assert group in out
    assert "kernels leaves out biases and norms, as for the shipped weights (default: all)" in out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--experts", "some"], 2, "number above 0"),
        (["--epochs", "-1"], 2, "epochs must be above 0"),
        (["--optimizer", "lion"], 2, "invalid choice"),
        (["--data", "imagenet"], 1, "imagenet"),
        (["--data", "folder:/nowhere"], 1, "/nowhere"),
        (["--model", "nothing"], 1, "condconv_small"),
    ],
)
def test_mistakes_get_one_line(pictures, tmp_path, capsys, arguments, status, says):
    base = ["train", "--out", str(tmp_path / "run"), "--data", f"folder:{pictures}"]
    assert main([*base, *arguments]) == status
    err = capsys.readouterr().err
    assert says in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 1, "/nowhere"),
        (["--width", "8", "--no-flip"], 2, "leave out --width --no-flip"),
        (["--data", "fashion_mnist"], 2, "leave out --data"),
        (["--epochs", "0"], 1, "/nowhere"),
    ],
)
def test_mistakes_with_resume(capsys, arguments, status, says):
    assert main(["train", "--resume", "/nowhere", *arguments]) == status
    err = capsys.readouterr().err
    assert says in err.splitlines()[-1] and "Traceback" not in err


def test_evaluate_on_other_classes(weights, pictures, capsys):
    assert main(["evaluate", str(weights / "colour.safetensors"), "--data", f"folder:{pictures}"]) == 1
    assert "has blue, red" in capsys.readouterr().err
    assert main(["evaluate", "missing"]) == 1
    assert "no file missing" in capsys.readouterr().err


def test_a_run_goes_on_from_any_folder(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    assert main(["train", "--data", f"folder:{pictures.name}", "--out", str(tmp_path / "run"), *TINY]) == 0
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["data"] == f"folder:{pictures}"
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", "run", "--epochs", "3"]) == 0


def test_a_run_goes_on_with_its_own_pictures_alone(pictures, tmp_path, capsys):
    folder, run = tmp_path / "pictures", tmp_path / "run"
    shutil.copytree(pictures, folder)
    assert main(["train", "--data", f"folder:{folder}", "--out", str(run), *TINY]) == 0
    more = folder / "train" / "red" / "more.png"
    shutil.copy(next((folder / "train" / "red").iterdir()), more)
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 1
    assert "are no longer those that" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.iterdir() if path.name != "run.lock"}.items() <= before.items()

    more.unlink()
    for split in ("train", "test"):  # as many, in as many classes, but another class
        (folder / split / "red").rename(folder / split / "rose")
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 1
    assert "are no longer those that" in capsys.readouterr().err

    for split in ("train", "test"):
        (folder / split / "rose").rename(folder / split / "red")
    settings = json.loads((run / "settings.json").read_text())
    del settings["digest"]  # as an earlier version left it
    (run / "settings.json").write_text(json.dumps(settings))
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 0
    assert json.loads((run / "settings.json").read_text())["digest"]
