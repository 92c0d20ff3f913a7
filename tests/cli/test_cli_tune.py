"""`condconv-mlx tune`."""

import json

import mlx.core as mx
import pytest

from condconv_mlx import cli, doctor, load_model, tuning
from condconv_mlx.functional import STRATEGIES, tuned
from condconv_mlx.tuning import find_cases


@pytest.fixture(autouse=True)
def quick(tuning_file, monkeypatch):
    """A single short round, and a file of its own."""
    monkeypatch.setattr(tuning, "ROUNDS", (2, 2))
    monkeypatch.setattr(tuning, "MOST_AT_ONCE", 1)


def test_it_measures_keeps_and_shows(weights, tuning_file, capsys):
    path = weights / "colour.safetensors"
    assert cli.main(["tune", "--model", str(path), "--batch", "2"]) == 0
    captured = capsys.readouterr()
    for word in ("unfold", "loop", "outputs", "inference", "training", "(default)", "4 experts", str(tuning_file)):
        assert word in captured.out
    assert "2×8×8×18 → 24, 3×3" in captured.out
    cases = find_cases(load_model(path), mx.zeros((2, 32, 32, 3)))
    kept = tuned.strategies(str(mx.default_device()))
    assert set(kept) == {case._replace(training=training) for case in cases for training in (True, False)}


def test_json(weights, tuning_file, capsys):
    path = weights / "grey.safetensors"
    arguments = ["tune", "--model", str(path), "--batch", "1", "3", "--size", "16", "--dtype", "float16", "--json"]
    assert cli.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == str(tuning_file)
    assert (report["device"], report["mlx"]) == tuned.place()
    assert {case["dtype"] for case in report["cases"]} == {"float16"}
    assert {case["x"][0] for case in report["cases"]} == {1, 3}
    assert [(total["batch"], total["mode"]) for total in report["totals"]] == [
        (1, "inference"),
        (1, "training"),
        (3, "inference"),
        (3, "training"),
    ]
    for case in report["cases"]:
        assert case["chosen"] in case["milliseconds"]
        assert {*case["milliseconds"], *case["left_out"]} == {*STRATEGIES, "outputs"}
    first = report["totals"][0]
    inference = [case for case in report["cases"] if case["x"][0] == 1 and not case["training"]]
    assert sum(case["layers"] for case in inference) == 5
    assert first["chosen"] == pytest.approx(
        sum(case["layers"] * case["milliseconds"][case["chosen"]] for case in inference)
    )


def test_an_architecture_by_name(monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(tuning, "tune", lambda cases: iter(seen.update(cases) or ()))
    assert cli.main(["tune", "--model", "condconv_small", "--batch", "2"]) == 0
    assert {case.x[:3] for case in seen if case.kernel[1] == 3} == {(2, 16, 16), (2, 8, 8), (2, 4, 4)}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "--model and --batch"),
        (["--model", "condconv_small"], "--model and --batch"),
        (["--batch", "2"], "--model and --batch"),
        (["--clear", "--batch", "2"], "--model and --batch"),
        (["--model", "condconv_small", "--batch", "0"], "above 0"),
        (["--model", "condconv_small", "--batch", "2", "x"], "above 0"),
        (["--model", "condconv_small", "--batch", "2", "--size", "-1"], "size"),
        (["--model", "condconv_small", "--batch", "2", "--dtype", "int8"], "int8"),
    ],
)
def test_a_wrong_argument_gives_one_line_and_status_2(arguments, wanted, capsys):
    assert cli.main(["tune", *arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert wanted in line
    assert captured.out == ""


@pytest.mark.parametrize(("model", "wanted"), [("static", "nothing to tune"), ("none", "none.safetensors")])
def test_a_model_without_layers_or_file_gives_one_line_and_status_1(weights, model, wanted, capsys):
    assert cli.main(["tune", "--model", str(weights / f"{model}.safetensors"), "--batch", "2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert wanted in line


def test_ctrl_c_keeps_what_was_measured(weights, monkeypatch, capsys):
    right = tuning._measure
    calls = []

    def stopped(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return right(*arguments)

    monkeypatch.setattr(tuning, "_measure", stopped)
    assert cli.main(["tune", "--model", str(weights / "colour.safetensors"), "--batch", "2", "--json"]) == 130
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["cases"]) == 3
    assert "Stopped after 3 of 10 cases" in captured.err
    assert len(tuned.read()) == 3


def test_ctrl_c_before_anything_was_measured(weights, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "_measure", stopped)
    assert cli.main(["tune", "--model", str(weights / "colour.safetensors"), "--batch", "2"]) == 130
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written_costs_the_file_alone(weights, monkeypatch, tuning_file, capsys):
    tuning_file.parent.write_text("a file where the folder belongs")
    assert cli.main(["tune", "--model", str(weights / "colour.safetensors"), "--batch", "2"]) == 1
    captured = capsys.readouterr()
    assert "unfold" in captured.out
    (line,) = captured.err.splitlines()
    assert "nothing was kept" in line and str(tuning_file) in line


def test_wrong_strategies_are_named(weights, monkeypatch, capsys):
    right = STRATEGIES["unfold"]
    monkeypatch.setitem(STRATEGIES, "cheat", lambda x, kernels, geometry: 1.2 * right(x, kernels, geometry))
    assert cli.main(["tune", "--model", str(weights / "colour.safetensors"), "--batch", "2"]) == 0
    assert "cheat is wrong: relative error" in capsys.readouterr().out
    assert all(measured.strategy != "cheat" for measured in tuned.read().values())


def test_clear(weights, capsys):
    model = ["--model", str(weights / "colour.safetensors")]
    assert cli.main(["tune", *model, "--batch", "2"]) == 0
    assert cli.main(["tune", *model, "--batch", "3", "--clear"]) == 0
    assert {case.x[0] for _, case in tuned.read()} == {3}
    capsys.readouterr()
    assert cli.main(["tune", "--clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"forgotten": 10}
    assert tuned.read() == {}


def test_doctor_says_how_much_was_measured(weights, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_speed", lambda *_: None)
    assert cli.main(["doctor"]) == 0
    assert "nothing measured" in capsys.readouterr().out
    cli.main(["tune", "--model", str(weights / "colour.safetensors"), "--batch", "2"])
    capsys.readouterr()
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tuning"]["cases"] == 10
