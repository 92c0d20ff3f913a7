"""The charts of runs show what the log says, and what is wrong with the routing is said in words."""

import json

import pytest
from runs_material import make_run

from condconv_mlx.runs.charts import FEW, experts, health, learning, pace, routers
from condconv_mlx.runs.finding import Run, find_runs
from condconv_mlx.runs.health import concerns


def one(folder, **options) -> Run:
    make_run(folder / "runs" / "one", **options)
    (run,) = find_runs(folder / "runs")
    return run


def test_curves_of_one_run(tmp_path):
    charts = {chart.name: chart for chart in learning([one(tmp_path)])}
    held_out, training = charts["accuracy"].figure.data
    assert held_out.name == "held out" and list(held_out.y) == pytest.approx([60, 70, 80])
    assert training.line.dash == "dot" and list(training.y) == pytest.approx([40, 50, 60])
    # This log has no loss on held-out images.
    assert [line.name for line in charts["loss"].figure.data] == ["training"]
    header, rows = charts["accuracy"].table
    assert header == ["line", "epoch", "accuracy (%)"] and rows[0] == ["held out", 1, pytest.approx(60)]
    assert len(rows) == 6


def test_curves_begin_before_the_first_epoch_is_over(tmp_path):
    path = make_run(tmp_path / "runs" / "one", epochs=0, end=None)
    line = {"kind": "step", "step": 1, "epoch": 0.1, "loss": 2.3, "accuracy": 0.1, "learning_rate": 0.01}
    with open(path / "log.jsonl", "a") as log:
        log.write(json.dumps(line | {"images_per_second": 50, "seconds": 1.0, "memory_mb": 7}) + "\n")
        log.write(json.dumps(line | {"step": 2, "epoch": 0.2, "images_per_second": 60, "seconds": 3.0}) + "\n")
    (run,) = find_runs(tmp_path / "runs")
    assert [chart.name for chart in learning([run])] == ["loss", "accuracy"]
    assert [chart.name for chart in pace([run])] == ["learning-rate", "images-per-second", "memory-mb"]
    assert health([run]) == [] == routers(run)
    # One step of 30 took two seconds, and 28 are left.
    assert run.seconds_left == pytest.approx(56)


def test_of_many_runs_only_what_is_held_out_is_drawn_each_in_its_colour(tmp_path):
    for number in range(FEW + 1):
        make_run(tmp_path / f"{number}", experts=None if number == 1 else 4)
    runs = sorted(find_runs(tmp_path), key=lambda run: run.name)
    (chart,) = learning(runs)
    assert [line.name for line in chart.figure.data] == [f"{number}, held out" for number in range(FEW + 1)]
    (entropy, *_) = health(runs)
    # Of the last router of each; the static one has none.
    assert [line.name for line in entropy.figure.data] == [f"{number}, classifier.router" for number in (0, 2, 3)]
    assert [line.line.color for line in entropy.figure.data] == [chart.figure.data[i].line.color for i in (0, 2, 3)]
    assert list(entropy.figure.data[0].y) == [0.5, 0.5, 0.5]


def test_the_use_of_experts(tmp_path):
    run = one(tmp_path)
    assert routers(run) == ["blocks.1.router", "classifier.router"]
    chart = experts(run, "classifier.router")
    assert chart.title == "Which experts classifier used" and chart.figure.data[0].z.shape == (4, 3)
    assert chart.table[1] == [[1, 0.5, 0.5, 0.5, 0.5], [2, 0.5, 0.5, 0.5, 0.5], [3, 0.5, 0.5, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"experts": [0.5, 0.005, 0.5, 0.5]}, ["In classifier, expert 2 has collapsed"]),
        ({"experts": [0.001, 0.005, 0.5, 0.5]}, ["In classifier, experts 1, 2 have collapsed"]),
        # Softmax over very many: each has little.
        ({"experts": [0.008] * 125}, []),
        ({"deviation": 0.004}, ["classifier routes all images alike: its weights differ by 0.004 only"]),
        ({"saturated": 0.97}, ["97 % of the weights of classifier are within 0.05 of 0 or 1"]),
        ({"experts": [1.0], "deviation": 0.0}, []),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, said):
    path = make_run(tmp_path / "runs" / "one")
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    lines[-2]["routing"]["classifier.router"] |= changes
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run,) = find_runs(tmp_path / "runs")
    for sentence, words in zip(concerns(run), said, strict=True):
        assert sentence.startswith(words)


def test_a_run_without_routing_has_nothing_wrong_with_it(tmp_path):
    assert concerns(one(tmp_path, experts=None)) == []
