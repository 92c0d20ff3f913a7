"""`condconv-mlx cache`."""

import io
import json

import pytest

from condconv_mlx.cli import main


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    (folder / "mnist").mkdir(parents=True)
    (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(bytes(2_500_000))
    (folder / "tuning.json").write_bytes(bytes(1200))
    (folder / "mine.txt").write_text("mine")
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "best.safetensors").write_bytes(bytes(300_000))
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_it_shows_names_sizes_and_places(cache, capsys):
    assert main(["cache"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert "2.5 MB" in lines["mnist"] and str(cache / "mnist") in lines["mnist"]
    assert "1.2 kB" in lines["tuning"] and "0.3 MB" in lines["runs"]
    assert " - " in lines["cifar10"] and "tf_efficientnet_cc_b0_4e" in lines


def test_json(cache, capsys):
    assert main(["cache", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["folder"] == str(cache)
    sizes = {row["name"]: row["bytes"] for row in printed["kept"]}
    assert (sizes["mnist"], sizes["tuning"], sizes["runs"], sizes["cifar10"]) == (2_500_000, 1200, 300_000, 0)
    assert main(["cache", "--clear", "tuning", "cifar10", "--yes", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["deleted"]] == ["tuning"]
    assert not (cache / "tuning.json").exists()


@pytest.mark.parametrize(
    ("answer", "deleted"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_it_asks_and_no_is_the_default(cache, capsys, monkeypatch, answer, deleted):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert main(["cache", "--clear", "mnist"]) == (0 if deleted else 1)
    out, err = capsys.readouterr()
    assert "Delete 2.5 MB? [y/N]" in err
    assert ("2.5 MB deleted" in out) == deleted and ("nothing was deleted" in err) != deleted
    assert (cache / "mnist").exists() != deleted and (cache / "tuning.json").exists()


def test_all_is_what_is_ours(cache, capsys):
    assert main(["cache", "--clear", "all", "--yes"]) == 0
    assert [path.name for path in cache.iterdir()] == ["mine.txt"]
    assert (cache.parent / "runs" / "one" / "best.safetensors").exists()
    assert main(["cache", "--clear", "all", "--yes"]) == 0
    assert "There was nothing to delete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--clear", "mnits", "--yes"], 2, "Did you mean"),
        (["--clear", "runs", "--yes"], 2, "condconv-mlx runs --delete"),
        (["--yes"], 2, "--yes is for --clear"),
        (["--clear", "tuning", "tf_efficientnet_b0", "--yes"], 1, "hf cache rm model/timm/tf_efficientnet_b0"),
        (["--clear", "mnist"], 1, "say --yes"),
    ],
)
def test_mistakes_get_one_line_and_delete_nothing(cache, capsys, monkeypatch, arguments, status, says):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["cache", *arguments]) == status
    err = capsys.readouterr().err
    assert says in err.splitlines()[-1] and "Traceback" not in err
    assert (cache / "tuning.json").exists() and (cache / "mnist").exists()
