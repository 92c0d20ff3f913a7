"""`condconv-mlx runs`."""

import fcntl
import io
import json

import pytest
from runs_material import make_run

from condconv_mlx.cli import main
from condconv_mlx.durations import duration


@pytest.fixture
def folder(tmp_path, monkeypatch):
    make_run(tmp_path / "runs" / "one", epochs=30, of=30, tested=0.8125, changed=1e9)
    make_run(tmp_path / "runs" / "two", epochs=2, of=30, experts=None, end="stopped", changed=2e9, learning_rate=0.25)
    make_run(tmp_path / "runs" / "bad", epochs=1, end="failed", message="the disk is full", changed=5e8)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_list(folder, capsys):
    assert main(["runs"]) == 0
    titles, two, one, bad, said = capsys.readouterr().out.splitlines()
    assert titles.split()[:3] == ["run", "state", "network"]
    assert two.split()[:2] == ["two", "stopped"] and "2 of 30" in two and "static" in two and "2 min 00 s" in two
    assert "81.25%" in one and "30 of 30" in one and "30 min 00 s" in one and "fashion_mnist" in one
    assert said == "bad: the disk is full"


def test_nothing_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 1
    assert "there is no folder runs" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    assert main(["runs"]) == 0
    assert "There are no runs in runs" in capsys.readouterr().out
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": []}


def test_a_comparison(folder, capsys):
    assert main(["runs", "one", "two"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (rate,) = [line for line in lines if "learning_rate" in line]
    assert rate.split() == ["training.learning_rate", "0.1", "0.25"]
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == ["epoch"])
    curves = [line.split() for line in lines[start + 1 :]]
    # Some of thirty, the first and the last among them; the second run has done two epochs.
    assert len(curves) == 12 and (curves[0][0], curves[-1][0]) == ("1", "30")
    assert curves[0][1:] == ["2.0000", "60.00%", "2.0000", "60.00%"] and len(curves[-1]) == 3


def test_a_comparison_as_json_and_as_a_page(folder, tmp_path, capsys):
    path = tmp_path / "runs.html"
    assert main(["runs", "one", "two", "--json", "--html", str(path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in printed["runs"]] == ["one", "two"]
    assert printed["differ"]["training.learning_rate"] == [0.1, 0.25]
    assert len(printed["epochs"]["one"]) == 30
    assert "plotly-graph-div" in path.read_text(encoding="utf-8")
    assert main(["runs", "--html", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"{path}\n")
    assert "bad" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("\n", False)])
def test_deleting_asks_first(folder, capsys, monkeypatch, answer, deleted):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert main(["runs", "--delete", "two", "bad"]) == (0 if deleted else 1)
    out, err = capsys.readouterr()
    assert "Delete 2 runs" in err and ("2 runs deleted" in out) == deleted
    assert (folder / "two").exists() == (folder / "bad").exists() != deleted
    assert (folder / "one").exists()


def test_what_training_did_not_write_is_left_and_told(folder, capsys):
    (folder / "bad" / "notes.txt").write_text("mine")
    assert main(["runs", "--delete", "bad", "--yes"]) == 0
    assert "notes.txt" in capsys.readouterr().out
    assert main(["runs", "--delete", "two", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": [{"name": "two", "left": []}]}


def test_a_running_one_is_never_deleted_and_nothing_with_it(folder, capsys):
    with open(folder / "two" / "run.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        assert main(["runs", "--delete", "bad", "two", "--yes"]) == 1
    assert "two is running (process 4711)" in capsys.readouterr().err
    assert (folder / "bad" / "log.jsonl").exists() and (folder / "two" / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["onne"], 1, "Did you mean one"),
        (["--yes"], 2, "--yes is for --delete"),
        (["one", "--delete", "two"], 2, "--delete stands alone"),
        (["--delete", "one"], 1, "say --yes"),
        (["--html", "missing/runs.html"], 1, "there is no folder missing"),
    ],
)
def test_mistakes_get_one_line_and_delete_nothing(folder, capsys, monkeypatch, arguments, status, says):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["runs", *arguments]) == status
    err = capsys.readouterr().err
    assert says in err.splitlines()[-1] and "Traceback" not in err
    assert len(list(folder.iterdir())) == 3


def test_durations():
    assert [duration(each) for each in (0, 59.6, 61, 3599, 7265)] == [
        "0 s", "1 min 00 s", "1 min 01 s", "59 min 59 s", "2 h 01 min"
    ]  # fmt: skip
