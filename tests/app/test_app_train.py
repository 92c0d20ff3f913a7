"""The page Train: the form, what it starts, and every state in which a run may be."""

import fcntl
import json
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_material import figure, go_to, open_app, save_untrained, texts
from runs_material import make_run

from condconv_mlx.app import train_data, train_estimate, train_form, train_plan
from condconv_mlx.runs import process as runs_process
from condconv_mlx.runs.process import OUTPUT, STARTED, started

SECONDS = 120


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the app's runs lie; there is none, here or where the tests are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_estimate, "_known", {})
    return tmp_path / "runs"


@pytest.fixture
def held() -> Iterator[list[Any]]:
    """Files that are locked, as if processes lived."""
    files: list[Any] = []
    yield files
    for file in files:
        file.close()


@pytest.fixture
def asked(held: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of what would be started; it seems to live."""
    commands: list[list[str]] = []

    def spawn(path: Path, arguments: list[str], settings: dict[str, Any]) -> None:
        commands.append(arguments)
        held.append(open(path / OUTPUT, "a"))
        fcntl.flock(held[-1], fcntl.LOCK_EX)
        (path / STARTED).write_text(json.dumps({"command": [], "pid": 0, "settings": settings}))

    monkeypatch.setattr(runs_process, "_spawn", spawn)
    return commands


def pressed(app: Any, label: str) -> Any:
    """A press of the first button of that name."""
    return next(button for button in app.button if button.label == label).click().run()


def labels(app: Any) -> list[str]:
    return [button.label for button in app.button]


def test_without_runs_the_form_is_open_and_leads_on(weights: Path, runs: Path) -> None:
    app = open_app("train")
    assert not app.exception and not app.error
    assert "No training runs yet" in texts(app.info)
    assert app.code[0].value == (
        f"condconv-mlx train --background --data cifar10 --epochs 5 --out {runs / 'cifar10-8-experts'}"
    )
    # Nothing is there, so nothing is begun without a word.
    assert "CIFAR-10 photos are not on this machine yet: 170 MB will be downloaded" in texts(app.info)
    assert not runs.exists()


def test_start_begins_one_run_and_shows_it(weights: Path, runs: Path, asked: list) -> None:
    app = pressed(open_app("train"), "Start")
    assert not app.exception and not app.error
    path = runs / "cifar10-8-experts"
    assert asked == [["--data", "cifar10", "--epochs", "5", "--out", str(path)]]
    assert started(path).settings == {
        "data": "cifar10",
        "model": "condconv_small",
        "model.num_experts": 8,
        "training.epochs": 5,
    }
    assert app.query_params["runs"] == str(path)
    assert "cifar10-8-experts" in texts(app.markdown) and "condconv_small, 8 experts" in texts(app.caption)
    # The form made room, and would give the next run another name.
    assert "Start" not in labels(app) and "Stop" in labels(app)
    app.session_state["new training"] = True
    assert "cifar10-8-experts-2" in app.run().code[0].value
    # A second press, a moment later, is a slip.
    app = pressed(app, "Start")
    assert len(asked) == 1 and [each.name for each in runs.iterdir()] == ["cifar10-8-experts"]


def command(app: Any) -> str:
    """The options that the form shows, from the data on and without the folder."""
    shown = next(block.value for block in app.code if "--data" in block.value)
    return shown.split("--data ")[1].split(" --out ")[0]


def test_two_tabs_start_the_same_name(weights: Path, runs: Path, asked: list) -> None:
    tabs = [open_app("train"), open_app("train")]
    for tab in tabs:
        tab.text_input(key="train name").set_value("mine").run()
    for tab in tabs:
        pressed(tab, "Start")
    assert [command[-1] for command in asked] == [str(runs / "mine"), str(runs / "mine-2")]
    assert [tab.query_params["runs"] for tab in tabs] == [str(runs / "mine"), str(runs / "mine-2")]


def test_every_setting_of_the_form_reaches_the_command_line(weights: Path, runs: Path, asked: list) -> None:
    app = open_app("train")
    app.button_group(key="recipe").set_value("thorough").run()
    app.selectbox(key="train on").set_value("mnist").run()
    app.selectbox(key="train experts").set_value(0).run()
    app.selectbox(key="train optimizer thorough").set_value("adamw")
    for name, value in {"batch_size": 64, "learning_rate": 0.003, "ema": 0.999, "mixup": 0.2, "seed": 7}.items():
        app.number_input(key=f"train {name} thorough").set_value(value)
    app = pressed(app.run(), "Start")
    assert not app.exception and not app.error
    words = "--data mnist --experts none --epochs 30 --batch-size 64 --optimizer adamw --learning-rate 0.003"
    words += " --warmup 2 --decay kernels --ema 0.999 --seed 7 --no-flip --shift 4 --cutout 8 --mixup 0.2"
    assert asked == [[*words.split(), "--out", str(runs / "mnist-static")]]
    # The command line takes them.
    from condconv_mlx.cli import _parser

    args = _parser().parse_args(["train", *asked[0]])
    assert (args.experts, args.flip, args.cutout, args.mixup, args.epochs) == (None, False, 8, 0.2, 30)


def test_thorough_is_the_recipe_of_the_shipped_weights(weights: Path, runs: Path, asked: list) -> None:
    app = open_app("train")
    app.button_group(key="recipe").set_value("thorough").run()
    card = (Path(train_plan.__file__).parents[1] / "weights" / "condconv_small_cifar10.md").read_text()
    words = re.search(r"`condconv-mlx train --data folder:cifar10 (.*?)`", card)
    assert words and sorted(words[1].split()) == sorted(command(app).split()[1:])
    app.number_input(key="train jitter thorough").set_value(0.2)
    app.number_input(key="train hue thorough").set_value(0.1)
    app.number_input(key="train weight_decay thorough sgd").set_value(0.002).run()
    assert "--weight-decay 0.002" in command(app) and "--jitter 0.2 --hue 0.1" in command(app)
    # It is another optimizer's number, and there is no warm-up in one cycle.
    app.selectbox(key="train optimizer thorough").set_value("adamw")
    app.selectbox(key="train schedule thorough").set_value("one-cycle").run()
    assert "--weight-decay" not in command(app) and "--warmup" not in command(app)
    # With Muon only the kernels of convolutions decay.
    app.selectbox(key="train optimizer thorough").set_value("muon").run()
    assert "--optimizer muon" in command(app) and "decay" not in command(app)
    assert not [box for box in app.selectbox if box.label == "What decays"]
    app.selectbox(key="train on").set_value("fashion_mnist").run()
    assert "--jitter" in command(app) and "--hue" not in command(app)


def test_a_folder_is_looked_at_and_mistakes_are_sentences(
    weights: Path, runs: Path, asked: list, pictures: Path
) -> None:
    app = open_app("train")
    app.selectbox(key="train on").set_value("a folder or zip of mine").run()
    assert "Say above where the pictures are" in texts(app.info) and "Start" not in labels(app)
    app.text_input(key="train path").set_value(str(pictures / "nowhere")).run()
    assert "There is no " in texts(app.error) and "Start" not in labels(app)
    app.text_input(key="train path").set_value(str(pictures)).run()
    assert "2 classes, 84 pictures" in texts(app.caption) and not app.error
    app.text_input(key="train name").set_value("../up").run()
    assert "cannot be called" in texts(app.error)
    app.text_input(key="train name").set_value("").run()
    pressed(app, "Start")
    assert asked[0][:2] == ["--data", f"folder:{pictures}"]
    assert asked[0][-1] == str(runs / f"{pictures.name}-8-experts")


def test_fine_tuning_offers_networks_that_take_such_images(weights: Path, runs: Path, asked: list) -> None:
    app = open_app("train")
    app.button_group(key="recipe").set_value("fine-tune").run()
    names = app.selectbox(key="train from").options
    assert len(names) == 2 and all("CIFAR-10" in name for name in names)
    # Those of the last choice are not among them.
    app.selectbox(key="train from").set_value("condconv_small_static_cifar10").run()
    app.selectbox(key="train on").set_value("mnist").run()
    (name,) = app.selectbox(key="train from").options
    assert "Fashion-MNIST" in name and not app.exception and not app.error
    # Those of the hub take pictures of other sizes: they are for folders, and are fetched first.
    app.selectbox(key="train on").set_value("a folder or zip of mine").run()
    assert any("↓" in name for name in app.selectbox(key="train from").options)
    app.selectbox(key="train on").set_value("cifar10").run()
    app.selectbox(key="train from").set_value("condconv_small_cifar10").run()
    pressed(app, "Start")
    words = "--data cifar10 --from condconv_small_cifar10 --freeze --epochs 5"
    assert asked[0] == [*words.split(), "--out", str(runs / "cifar10-4-experts-fine-tuned")]


def test_a_network_of_the_hub_is_fetched_by_start_alone(
    weights: Path, runs: Path, asked: list, pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from condconv_mlx.convert import hub

    monkeypatch.setattr(hub, "cached", lambda name: None)
    app = open_app("train")
    app.button_group(key="recipe").set_value("fine-tune").run()
    app.selectbox(key="train on").set_value("a folder or zip of mine").run()
    app.text_input(key="train path").set_value(str(pictures)).run()
    app.selectbox(key="train from").set_value("tf_efficientnet_cc_b0_4e").run()
    assert "EfficientNet-B0 is not on this machine yet: 53 MB from huggingface.co" in texts(app.info)
    assert app.button(key="train estimate").disabled
    pressed(app, "Start")
    words = "--from tf_efficientnet_cc_b0_4e --freeze --yes --epochs 5"
    assert asked[0][2:-2] == words.split()


def measured(app: Any) -> Any:
    """The page when it is known how long it will take, or that it cannot be."""
    app = pressed(app, "How long will it take?")
    assert "Measuring a few steps" in texts(app.markdown)
    end = time.monotonic() + SECONDS
    while "Measuring a few steps" in texts(app.markdown):
        assert time.monotonic() < end
        time.sleep(0.1)
        app = app.run()
    assert not app.exception
    return app


def test_the_time_is_measured_by_the_command_and_kept(weights: Path, runs: Path, pictures: Path) -> None:
    app = open_app("train")
    app.selectbox(key="train on").set_value("a folder or zip of mine").run()
    app.text_input(key="train path").set_value(str(pictures)).run()
    app.number_input(key="train batch_size quick").set_value(8)
    app.number_input(key="train width quick").set_value(4).run()
    assert "measured here" not in texts(app.markdown)
    app = measured(app)
    assert not app.error
    assert "About " in texts(app.markdown) and "images a second, measured here" in texts(app.markdown)
    (found,) = train_estimate._known.values()
    # 58 of 64 pictures are trained on, in batches of 8.
    pace = found.pace
    assert pace and pace.steps_per_epoch == 7 and pace.seconds(10) == pytest.approx(70 * pace.seconds_per_step)
    # Epochs change the answer, not what was measured; another batch does.
    app.number_input(key="train epochs quick").set_value(1000).run()
    assert train_form.spoken(pace, 1000, False).replace("*", "") in texts(app.markdown).replace("*", "")
    app.number_input(key="train batch_size quick").set_value(4000).run()
    assert "measured here" not in texts(app.markdown)
    app = measured(app)
    assert "64 training images are too few" in texts(app.error) and not runs.exists()


def hold(path: Path) -> Any:
    """The lock of a run, as who trains holds it."""
    lock = open(path / "run.lock", "a+")
    fcntl.flock(lock, fcntl.LOCK_EX)
    lock.write("4711")
    lock.flush()
    return lock


def add_steps(path: Path) -> None:
    """Lines of an epoch that is not yet over."""
    with open(path / "log.jsonl", "a") as log:
        for step in (21, 22):
            numbers = {"loss": 0.5, "accuracy": 0.6, "learning_rate": 0.01, "images_per_second": 640.0}
            line = {"kind": "step", "step": step, "epoch": step / 10, "seconds": 120.0 + 30 * (step - 20), **numbers}
            log.write(json.dumps(line) + "\n")


def test_a_run_that_goes_on(weights: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_run(runs / "birds", epochs=2, of=3, end=None)
    add_steps(path)
    stopped: list[Path] = []
    monkeypatch.setattr(runs_process, "stop", lambda path: stopped.append(path) or True)
    with hold(path):
        app = open_app("train")
        assert not app.exception and not app.error and not app.info
        assert "training" in texts(app.markdown) and "epoch 2 of 3" in texts(app.caption)
        (bar,) = app.get("progress")
        # From the tenth step to the 22nd it took two minutes: eight are left.
        assert bar.proto.text == "step 22 of 30 · 640 images a second · about 80 s left"
        assert labels(app) == ["Stop", "Open on Route"]
        for key in ("loss", "accuracy"):
            assert figure(app, key) is not None
        app = pressed(app, "Stop")
        assert stopped == [path]
        assert app.get("progress")[0].proto.text == "Stopping after this step …"


def test_a_run_before_its_first_step(weights: Path, runs: Path, tmp_path: Path) -> None:
    """The download is followed by the file that it writes."""
    runs_process.start(runs, "slow", ["--data", f"folder:{tmp_path / 'nowhere'}"], {"data": "fashion_mnist"})
    end = time.monotonic() + SECONDS
    while runs_process.alive(runs / "slow") and time.monotonic() < end:
        time.sleep(0.05)
    (runs / "slow" / STARTED).write_text(json.dumps({"command": [], "pid": 1, "settings": {"data": "mnist"}}))
    part = tmp_path / "cache" / "mnist" / "train-images-idx3-ubyte.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(5_000_000))
    with open(runs / "slow" / OUTPUT, "a") as output:
        fcntl.flock(output, fcntl.LOCK_EX)
        app = open_app("train")
        assert app.get("progress")[0].proto.text == "Downloading MNIST digits: 5 of 12 MB"
        assert "Stop" in labels(app) and "Delete" not in [popover.label for popover in app.get("popover")]
    # It is over, and what it said was this.
    app = open_app("train")
    assert "It did not start. There is no folder" in texts(app.error) and not app.exception
    assert labels(app) == ["Try again", "Delete it"]


def test_a_run_that_stopped_goes_on(weights: Path, runs: Path, asked: list) -> None:
    make_run(runs / "birds", epochs=2, of=3, end="stopped")
    app = open_app("train")
    assert "stopped" in texts(app.markdown) and not app.warning and not app.error
    pressed(app, "Go on")
    assert asked == [["--resume", str(runs / "birds")]]


def test_a_run_that_stopped_goes_on_for_longer(weights: Path, runs: Path, asked: list) -> None:
    make_run(runs / "birds", epochs=2, of=3, end="stopped")
    app = open_app("train")
    app.number_input(key=f"epochs {runs / 'birds'}").set_value(9).run()
    pressed(app, "Train on")
    assert asked == [["--resume", str(runs / "birds"), "--epochs", "9"]]


def test_a_run_that_was_killed_says_so(weights: Path, runs: Path) -> None:
    make_run(runs / "birds", epochs=2, of=3, end=None)
    app = open_app("train")
    assert "ended without a word" in texts(app.warning) and "Go on" in texts(app.warning)


@pytest.mark.parametrize(
    ("end", "message", "says", "advises"),
    [
        ("failed", "the disk is full", "The disk is full. Go on continues from its last checkpoint.", True),
        ("diverged", "a weight is no longer finite", "A weight is no longer finite.", False),
    ],
)
def test_a_run_that_failed_says_why(
    weights: Path, runs: Path, end: str, message: str, says: str, advises: bool
) -> None:
    make_run(runs / "birds", epochs=1, of=3, end=end, message=message)
    app = open_app("train")
    text = texts(app.error).replace("*", "")
    assert text == says and ("checkpoint" in text) == advises
    assert "Go on" in labels(app)


def test_a_run_that_finished_is_opened_trained_on_and_deleted(weights: Path, runs: Path, asked: list) -> None:
    path = make_run(runs / "birds", tested=0.8125)
    shutil.copy(save_untrained(runs.parent, "weights"), path / "best.safetensors")
    app = open_app("train", model="condconv_small_fashion_mnist")
    assert "finished" in texts(app.markdown) and "Go on" not in labels(app)
    assert app.number_input(key=f"epochs {path}").value == 13
    opened = pressed(app, "Open on Route")
    assert not opened.exception and opened.header[0].value == "Route"
    assert opened.query_params["model"] == str(path / "best.safetensors") == opened.selectbox(key="model").value
    app = go_to(opened, "train")
    assert app.query_params["runs"] == str(path)
    app = pressed(app, "Delete it")
    assert not path.exists() and "No training runs yet" in texts(app.info) and not app.exception


def test_what_training_did_not_write_is_left(weights: Path, runs: Path) -> None:
    path = make_run(runs / "birds")
    (path / "notes.txt").write_text("mine")
    app = pressed(open_app("train"), "Delete it")
    assert "did not write it: notes.txt" in texts(app.error) and (path / "notes.txt").exists()


def test_several_runs_are_overlaid(weights: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It takes long to import, and charts that are drawn meanwhile fail.
    monkeypatch.setitem(sys.modules, "pandas", None)
    make_run(runs / "one", changed=3e9)
    make_run(runs / "deeper" / "two", experts=None, seed=1, changed=2e9)
    make_run(Path("runs") / "elsewhere", changed=1e9)
    app = open_app("train", runs=f"{runs / 'one'},{runs / 'deeper' / 'two'}")
    assert not app.exception and not app.error
    assert app.multiselect(key="runs").value == [str(runs / "one"), str(runs / "deeper" / "two")]
    chart = figure(app, "accuracy")
    assert chart is not None
    assert [line.name for line in chart.data if line.line.dash != "dot"] == ["one, held out", "deeper/two, held out"]
    text = texts(app.markdown).replace("---", "-")
    assert "| setting | one | deeper/two |\n| - | - | - |\n| num experts | 4 | none |\n| seed | 0 | 1 |" in text
    rows = [line.split(" | ")[0] for line in text.splitlines() if " | finished | " in line]
    assert rows == ["| one", "| deeper/two", "| elsewhere"]
    app.button_group(key="look").set_value("routing").run()
    assert figure(app, "entropy") is not None and "Choose a single run" in texts(app.caption)
    app.multiselect(key="runs").set_value([str(runs / "one")]).run()
    assert app.query_params["runs"] == str(runs / "one")
    assert figure(app, "experts-classifier.router") is not None
    # None at all is a choice, too, and a reload begins with the latest.
    app.multiselect(key="runs").set_value([]).run()
    assert not app.exception and "runs" not in app.query_params


def test_runs_of_one_name_in_two_folders_are_told_apart(weights: Path, runs: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_RUNS", str(tmp_path / "mine"))
    make_run(tmp_path / "mine" / "birds")
    make_run(tmp_path / "runs" / "birds")
    app = open_app("train")
    names = [f"birds in {tmp_path / folder}" for folder in ("mine", "runs")]
    assert sorted(app.multiselect(key="runs").options) == names


def test_a_collapsed_expert_is_named(weights: Path, runs: Path) -> None:
    path = make_run(runs / "birds")
    text = (path / "log.jsonl").read_text().replace("[0.5, 0.5, 0.5, 0.5]", "[0.5, 0.001, 0.5, 0.5]")
    (path / "log.jsonl").write_text(text)
    app = open_app("train")
    assert "In classifier, expert 2 has collapsed" in texts(app.warning)


def test_a_static_run_has_no_routing(weights: Path, runs: Path) -> None:
    make_run(runs / "birds", experts=None)
    app = open_app("train", look="routing")
    assert "nothing to route" in texts(app.info) and not app.exception


def test_a_wrong_address_and_damaged_runs_do_no_harm(weights: Path, runs: Path) -> None:
    make_run(runs / "birds", changed=2e9)
    (make_run(runs / "broken", changed=1e9) / "log.jsonl").write_text('{"kind": "epoch"')
    (make_run(runs / "worse") / "settings.json").write_text("{")
    app = open_app("train", runs="/nowhere,%zz", look="x", router="x")
    assert not app.exception and not app.error
    assert app.multiselect(key="runs").value == [str(runs / "birds")]
    app.multiselect(key="runs").set_value([str(runs / "broken")]).run()
    assert not app.exception


def zipped(pictures: Path) -> bytes:
    """The folder as a zip."""
    path = Path("birds.zip").absolute()
    with zipfile.ZipFile(path, "w") as archive:
        for file in pictures.rglob("*.png"):
            archive.write(file, file.relative_to(pictures))
    return path.read_bytes()


def test_an_uploaded_zip_is_kept_until_no_run_needs_it(
    weights: Path, runs: Path, asked: list, held: list, pictures: Path
) -> None:
    app = open_app("train")
    app.selectbox(key="train on").set_value("a folder or zip of mine").run()
    app.file_uploader(key="train zip").set_value(("my birds.zip", zipped(pictures), "application/zip")).run()
    assert not app.exception and not app.error and "2 classes, 84 pictures" in texts(app.caption)
    (kept,) = runs.rglob("*.zip")
    assert app.text_input(key="train path").value == str(kept) and kept.name == "my-birds.zip"
    assert any(label.startswith("Remove 1 that no run was trained on") for label in labels(app))
    app = pressed(app, "Start")
    assert asked[0][1] == f"folder:{kept}" and not any("Remove" in label for label in labels(app))
    for file in held:
        file.close()
    app = pressed(app.run(), "Delete it")
    assert not kept.exists() and not kept.parent.exists() and not app.exception


def test_a_zip_that_is_none_is_refused_and_not_kept(weights: Path, runs: Path) -> None:
    app = open_app("train")
    app.selectbox(key="train on").set_value("a folder or zip of mine").run()
    app.file_uploader(key="train zip").set_value(("birds.zip", b"PK no zip", "application/zip")).run()
    assert "Birds.zip is no zip archive" in texts(app.error) and not list(runs.rglob("*.zip"))


def test_names_of_runs_say_what_they_are() -> None:
    plan = train_plan.Plan({"data": "folder:/a/b c!.zip"}, "mobilenet_v2", None)
    assert plan.name == "b c--mobilenet_v2-static"
    runs_process.check_name(plan.name)


def test_what_was_downloaded_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache" / "cifar10"
    folder.mkdir(parents=True)
    assert train_data.downloaded("cifar10") == 0 and not train_data.is_here("cifar10")
    (folder / "cifar-10-binary.tar.gz.part").write_bytes(bytes(17_005_217))
    assert train_data.downloaded("cifar10") == pytest.approx(0.1)
    (folder / "cifar-10-binary.tar.gz.part").rename(folder / "cifar-10-binary.tar.gz")
    assert train_data.is_here("cifar10")
