"""`train` and `evaluate`, on a folder of tiny pictures."""

import json
import signal
import subprocess
import sys
import time

import pytest

from condconv_mlx.cli import main
from condconv_mlx.training import read_log

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
