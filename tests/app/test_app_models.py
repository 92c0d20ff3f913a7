"""The choice of a model: shipped, trained here, or any file."""

import os
import shutil
from pathlib import Path

import pytest
from app_material import figure, open_app, save_untrained, texts

from condconv_mlx.app import models

SHIPPED = "CIFAR-10 photos · 4 experts"


@pytest.fixture
def runs(weights: Path, tmp_path: Path) -> Path:
    """Two training runs, birds being the newer one."""
    folder = tmp_path / "runs"
    for age, name in enumerate(["birds", "cars"]):
        (folder / name).mkdir(parents=True)
        best = save_untrained(folder / name, "best", dataset=name, labels=["a", "b"], seed=age)
        os.utime(best, (1000 - age, 1000 - age))
    (folder / "unfinished").mkdir()
    return folder


def test_trained_here_comes_after_shipped(runs: Path) -> None:
    assert models.trained() == [runs / "birds" / "best.safetensors", runs / "cars" / "best.safetensors"]
    app = open_app()
    options = app.selectbox(key="model").options
    assert options[0] == SHIPPED
    assert "birds · birds · 4 experts" in options and "cars · cars · 4 experts" in options
    app.selectbox(key="model").set_value(str(runs / "cars" / "best.safetensors")).run()
    assert not app.exception and figure(app, "routing") is not None
    # A link opens it in another tab.
    again = open_app(model=str(runs / "cars" / "best.safetensors"))
    assert again.selectbox(key="model").value == app.selectbox(key="model").value


def test_a_run_deleted_while_it_is_looked_at_is_left_out(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = runs / "cars" / "best.safetensors"
    monkeypatch.setattr(models, "run_folders", lambda: [runs])
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [folder / "gone" / "best.safetensors", there])
    assert models.trained() == [there]


def test_runs_of_the_working_directory_count_too(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "runs" / "mine").mkdir(parents=True)
    best = save_untrained(tmp_path / "here" / "runs" / "mine", "best")
    monkeypatch.chdir(tmp_path / "here")
    assert models.trained() == [best]


@pytest.mark.parametrize("form", ["{file}", " '{folder}' "])
def test_any_file_is_opened_by_its_path(weights: Path, tmp_path: Path, form: str) -> None:
    file = save_untrained(tmp_path, "best", dataset="", labels=["x", "y", "z"])
    app = open_app()
    app.text_input(key="path model").set_value(form.format(file=file, folder=tmp_path)).run()
    assert not app.exception and not app.error
    assert app.selectbox(key="model").value == app.query_params["model"] == str(file)
    assert "Knows three things: x, y and z." in texts(app.caption)


def test_a_file_that_is_none_is_told_and_nothing_changes(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    app = open_app()
    for path, says in (("/nowhere/at/all.safetensors", "no file"), (str(tmp_path / "no.safetensors"), "damaged")):
        app.text_input(key="path model").set_value(path).run()
        assert not app.exception and says in texts(app.error)
        assert app.selectbox(key="model").value == "condconv_small_cifar10"
        assert figure(app, "routing") is not None


def test_weights_can_be_uploaded(weights: Path, tmp_path: Path, store: Path) -> None:
    file = save_untrained(tmp_path, "my net", seed=5)
    app = open_app()
    uploader = next(one for one in app.file_uploader if one.label == "or the file itself")
    uploader.set_value(("my net.safetensors", file.read_bytes(), "application/octet-stream")).run()
    assert not app.exception and not app.error
    kept = Path(app.selectbox(key="model").value)
    assert kept.parent == store / "models" and kept.name.startswith("my-net-")
    assert kept.read_bytes() == file.read_bytes()
    # It is there for other tabs, and after a restart.
    assert any(option.startswith("my-net-") for option in open_app().selectbox(key="model").options)


def test_weights_that_went_are_left_for_others(runs: Path) -> None:
    app = open_app(model=str(runs / "cars" / "best.safetensors"))
    shutil.rmtree(runs / "cars")
    app.run()
    assert not app.exception
    assert app.selectbox(key="model").value == "condconv_small_cifar10"
    assert figure(app, "routing") is not None
