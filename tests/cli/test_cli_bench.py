"""`condconv-mlx bench`, with measurements that are made up or tiny."""

import json

import pytest

from condconv_mlx import cli
from condconv_mlx.bench import measure as bench
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.measure import Section
from condconv_mlx.bench.memory import MemoryRow
from condconv_mlx.bench.training import SHARED, TrainingRow


@pytest.fixture
def measured(monkeypatch):
    """Sections that answer at once; the names and peers they were asked for."""
    asked = []

    def section(name, rows, findings):
        def measure(peer):
            asked.append((name, peer))
            yield from rows

        return Section(measure, lambda _: len(rows), lambda _: findings)

    training = [TrainingRow(SHARED, {"condconv": 123.0, "timm": 100.0})]
    memory = [MemoryRow(None, 10_000_000, 0), MemoryRow(8, 20_000_000, 1_000_000)]
    for name, rows, findings in (
        ("training", training, [Finding("Images a second", 1.23, 1.2, at_least=True)]),
        ("memory", memory, [Finding("Peak", 20.0, 15.0, "MB")]),
    ):
        monkeypatch.setitem(bench.MEASURES, name, section(name, rows, findings))
    return asked


def run(*arguments):
    return cli.main(["bench", "--no-peers", *arguments])


def test_it_prints_the_machine_and_the_sections_asked_for(measured, capsys):
    assert run("--only", "memory", "--only", "training") == 0
    captured = capsys.readouterr()
    shown = captured.out
    assert measured == [("training", None), ("memory", None)]
    assert shown.index("Processor") < shown.index("Training:") < shown.index("Memory:")
    assert "123" in shown and "missed" in shown
    # Not a terminal, so no progress bar.
    assert captured.err == ""


def test_json_alone_is_printed(measured, capsys):
    assert run("--only", "memory", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"machine", "memory"}
    assert printed["machine"]["peer"] is None
    assert printed["memory"]["rows"][1]["peak_bytes"] == 20_000_000
    assert printed["memory"]["findings"][0]["met"] is False


def test_a_page_is_written(measured, tmp_path, capsys):
    path = tmp_path / "bench.html"
    assert run("--only", "training", "--html", str(path)) == 0
    assert "plotly-graph-div" in path.read_text(encoding="utf-8")
    assert capsys.readouterr().out.endswith(f"{path}\n")
    assert run("--only", "training", "--json", "--html", str(path)) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("where", ["", "missing/bench.html"])
def test_a_page_that_cannot_be_written_is_refused_before_measuring(where, measured, tmp_path, capsys):
    assert run("--html", str(tmp_path / where)) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert measured == []


def test_the_peer_is_handed_on(measured, monkeypatch, capsys):
    loaded = []
    monkeypatch.setattr("condconv_mlx.bench.peers.load_peer", lambda threads, on_gpu: loaded.append(threads))
    assert cli.main(["bench", "--only", "memory"]) == 0
    assert len(loaded) == 1 and loaded[0] >= 1
    run("--only", "memory")
    assert len(loaded) == 1


def test_an_unknown_section_is_a_wrong_argument(capsys):
    assert cli.main(["bench", "--only", "speed"]) == 2
    assert "layers" in capsys.readouterr().err
