"""`condconv-mlx study`, on tiny pictures."""

import json

import pytest

from condconv_mlx.cli import main


@pytest.fixture
def study(pictures, tmp_path):
    base = ["study", "--data", f"folder:{pictures}", "--out", str(tmp_path / "study")]
    return [*base, *"--only routing --seeds 1 --images 48 --batch-size 16 --width 2 --epochs 1".split()]


def test_it_trains_what_is_missing_and_writes_page_and_numbers(study, tmp_path, capsys):
    assert main([*study, "--processes", "2"]) == 0
    out, err = capsys.readouterr()
    assert "0 of 3 runs are done" in err and "softmax less sigmoid" in out
    assert out.endswith(f"{tmp_path / 'study' / 'study.html'}\n")
    assert "plotly-graph-div" in (tmp_path / "study" / "study.html").read_text(encoding="utf-8")
    numbers = json.loads((tmp_path / "study" / "results.json").read_text())
    assert numbers["recipe"]["images"] == 48 and numbers["questions"][0]["missing"] == 0

    # Once more there is nothing to do.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "done").iterdir()}
    assert main([*study, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == numbers and err == ""
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "done").iterdir()} == before


def test_a_run_that_fails_is_told_and_the_status_says_so(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("condconv_mlx.study.runner.carry_out_all", lambda *_: {"8-experts-seed0": "it broke"})
    assert main(study) == 1
    err = capsys.readouterr().err
    assert "the run 8-experts-seed0 failed: it broke" in err and "no run of this study is finished" in err


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--draw"], 1, "no run of this study is finished"),
        (["--only", "speed"], 2, "invalid choice"),
        (["--seeds", "0"], 2, "number above 0"),
        (["--batch-size", "64"], 1, "48 training images are too few for batches of 64"),
        (["--data", "folder:/nowhere"], 1, "/nowhere"),
    ],
)
def test_mistakes_get_one_line(study, capsys, arguments, status, says):
    assert main([*study, *arguments]) == status
    err = capsys.readouterr().err
    assert says in err.splitlines()[-1] and "Traceback" not in err
