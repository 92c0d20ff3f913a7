"""`train` and `evaluate` on a zip of tiny pictures, and what they say about data sets."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condconv_mlx.checkpoint import load_model
from condconv_mlx.cli import main

TINY = "--width 4 --experts 2 --batch-size 8 --holdout 4 --epochs 1 --shift 1 --json".split()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """20 reddish and 20 bluish pictures of 28×28 pixels in a zip, and two files that are none."""
    rng = np.random.default_rng(0)
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as made:
        for label, channel in (("blue", 2), ("red", 0)):
            for index in range(20):
                pixels = rng.integers(0, 120, (28, 28, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                made.writestr(f"photos/{label}/{index}.png", buffer.getvalue())
        made.writestr("photos/red/broken.png", b"no picture")
        made.writestr("photos/red/empty.png", b"")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path / "cache"))


def test_train_on_a_zip_then_evaluate(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "--data", f"folder:{photos}", "--out", str(run), *TINY]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert "2 of 42 pictures could not be read and were left out: photos/red/broken.png, photos/red/empty.png. " in err
    assert "photos: 2 classes (blue 20, red 20), 32 training and 8 test images of 28×28 pixels in colour" in err
    assert load_model(summary["model"]).info["labels"] == ["blue", "red"]

    assert main(["evaluate", summary["model"], "--data", f"folder:{photos}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"] == summary["test_accuracy"] and result["images"] == 8
    assert [sum(row) for row in result["confusion"]] == [4, 4]


def test_a_size_of_choice_is_kept_when_resumed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", "--data", f"folder:{photos}", "--size", "40", "--out", str(run), *TINY]) == 0
    assert "of 40×40 pixels" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--epochs", "2", "--json"]) == 0
    assert "of 40×40 pixels" in capsys.readouterr().err
    model = run / "best.safetensors"
    assert load_model(model).info["input"]["size"] == 40
    tested = load_model(model).info["training"]["test_accuracy"]
    assert main(["evaluate", str(model), "--data", f"folder:{photos}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == tested


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--data", "cifar100", "--size", "64"], 2, "--size is for folder:PATH: the images of cifar100 have their own"),
        (["--data", "folder:/nowhere", "--size", "0"], 2, "must be a number above 0"),
        (["--data", "folder:/nowhere", "--size", "4"], 1, "must be from 8 to 1024 pixels, got 4"),
        (["--data", "folder:/nowhere.zip"], 1, "there is no folder /nowhere.zip"),
        (["--resume", "/nowhere", "--size", "64"], 2, "leave out --size"),
    ],
)
def test_mistakes_get_one_line(
    arguments: list[str], status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == status
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_refused_zip_leaves_nothing(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(photos, "a") as made:
        made.writestr("../../evil.png", b"")
    assert main(["train", "--data", f"folder:{photos}", "--out", str(tmp_path / "run")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "photos.zip is refused: its entry '../../evil.png' leads out of the archive" in line
    assert [file.name for file in tmp_path.iterdir()] == ["photos.zip"]


def test_other_classes_do_not_fill_the_screen(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "--data", f"folder:{photos}", "--out", str(run), *TINY]) == 0
    capsys.readouterr()
    many = tmp_path / "many.zip"
    with zipfile.ZipFile(photos) as given, zipfile.ZipFile(many, "w") as made:
        content = given.read("photos/red/0.png")
        for label in ["red", *(f"class {number}" for number in range(300))]:
            for index in range(2):
                made.writestr(f"{label}/{index}.png", content)
    assert main(["evaluate", str(run / "best.safetensors"), "--data", f"folder:{many}"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "was trained on 2 classes and" in line and "it knows blue; " in line
    assert line.endswith("class 104 and 292 more") and len(line) < 500


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_names_the_data_sets(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in ("cifar10,", "cifar100,", "mnist,", "fashion_mnist", "folder:PATH", "zip"):
        assert name in shown


def test_evaluates_on_the_test_images_it_was_trained_with(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, spec = tmp_path / "run", f"folder:{photos.name}?seed=3&test=0.4"
    monkeypatch.chdir(photos.parent)
    assert main(["train", "--data", spec, "--out", str(run), *TINY]) == 0
    tested = json.loads(capsys.readouterr().out)["test_accuracy"]
    model = str(run / "best.safetensors")
    # Also from elsewhere, where what was typed means nothing.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", model, "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["accuracy"], result["images"]) == (tested, 16)
    assert result["spec"] == f"folder:{photos}?seed=3&test=0.4" and "other pictures" not in err
    # Other test images of the same pictures are not unseen.
    assert main(["evaluate", model, "--data", f"folder:{photos}"]) == 0
    out, err = capsys.readouterr()
    assert "of 8 test images" in out and f"was trained on folder:{photos}?seed=3&test=0.4, which keeps other" in err
    assert main(["evaluate", model, "--data", f"folder:{photos}?test=0.4&seed=3&size=28"]) == 0
    assert "other pictures" not in capsys.readouterr().err


def test_evaluates_on_what_is_not_there(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "--data", f"folder:{photos}", "--out", str(run), *TINY]) == 0
    # Without its run, the file says no more than what the pictures were called.
    alone = run.rename(tmp_path / "moved") / "best.safetensors"
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(alone.read_bytes())
    assert main(["evaluate", str(copied)]) == 1
    assert "was trained on 'photos', and does not say where that is: add --data" in capsys.readouterr().err
    # The settings of a run are not those of any file beside them.
    other = tmp_path / "other"
    assert main(["train", "--data", f"folder:{photos}", "--out", str(other), *TINY, "--experts", "3"]) == 0
    (other / "best.safetensors").write_bytes(alone.read_bytes())
    assert main(["evaluate", str(other / "best.safetensors")]) == 1
    assert "does not say where that is" in capsys.readouterr().err
    photos.unlink()
    assert main(["evaluate", str(alone)]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert f"was trained on folder:{photos}" in err and "Add --data" in err


def test_evaluates_on_the_data_set_that_shipped_weights_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import condconv_mlx.data

    asked = []

    def load(spec: str, size: int | None = None) -> None:
        asked.append((spec, size))
        raise condconv_mlx.data.DataError("not now")

    monkeypatch.setattr(condconv_mlx.data, "load_dataset", load)
    # Settings of some run in the folder where the command is given have nothing to do with a name.
    (tmp_path / "settings.json").write_text('{"data": "mnist", "source": "MNIST", "config": {}}')
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "condconv_small_fashion_mnist"]) == 1
    assert asked == [("fashion_mnist", None)]
    assert "was trained on fashion_mnist: not now" in capsys.readouterr().err
