"""Runs are found, described, compared and deleted."""

import fcntl
import json

import pytest
from runs_material import make_run

from condconv_mlx.runs.finding import chosen, delete, differing, find_runs
from condconv_mlx.runs.page import page


@pytest.fixture
def folder(tmp_path):
    make_run(tmp_path / "runs" / "one", tested=0.8125, changed=1e9)
    make_run(tmp_path / "runs" / "old" / "two", epochs=1, of=5, experts=None, end="stopped", seed=1, changed=2e9)
    make_run(tmp_path / "runs" / "bad", epochs=0, end="diverged", message="no longer finite at step 7", changed=5e8)
    (tmp_path / "runs" / "study").mkdir()
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "settings.json").write_text('{"theme": "dark"}')
    return tmp_path / "runs"


def test_runs_are_found_the_latest_first_and_other_folders_are_not(folder):
    runs = find_runs(folder)
    assert [run.name for run in runs] == ["old/two", "one", "bad"]
    assert [run.status.state for run in runs] == ["stopped", "finished", "failed"]
    assert [run.network for run in runs] == ["condconv_small, static", "condconv_small, 4 experts"] + [runs[1].network]
    assert [run.epochs for run in runs] == ["1 of 5", "3 of 3", "0 of 3"]
    two, one, bad = runs
    assert (one.held_out_accuracy, one.test_accuracy, one.best_epoch) == (pytest.approx(0.8), 0.8125, 3)
    assert (two.test_accuracy, bad.held_out_accuracy) == (None, None)
    assert (one.seconds, bad.seconds) == (180.0, 0.0)
    assert bad.status.message == "no longer finite at step 7"
    assert two.as_json()["settings"]["training.seed"] == 1


def test_a_run_that_holds_its_lock_is_running(folder):
    with open(folder / "one" / "run.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        (run,) = [run for run in find_runs(folder) if run.name == "one"]
        assert (run.status.state, run.status.pid) == ("running", 4711)
        with pytest.raises(ValueError, match="4711 is training"):
            delete(run)
    assert sorted(path.name for path in (folder / "one").iterdir()) == [
        "best.safetensors",
        "log.jsonl",
        "run.lock",
        "settings.json",
        "state.safetensors",
    ]


def test_the_folder_itself_may_be_a_run_and_links_are_not_followed(folder, tmp_path):
    assert [run.name for run in find_runs(folder / "one")] == ["one"]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to(folder / "one")
    assert find_runs(tmp_path / "links") == []
    with pytest.raises(ValueError, match="no folder"):
        find_runs(tmp_path / "nowhere")


def test_a_damaged_best_model_hides_no_run(folder):
    (folder / "one" / "best.safetensors").write_bytes(b"torn")
    with open(folder / "one" / "log.jsonl", "a") as log:
        log.write('{"kind": "epoch", "ep')
    (run,) = [run for run in find_runs(folder) if run.name == "one"]
    assert run.test_accuracy is None and len(run.log.epochs) == 3


def test_runs_are_chosen_by_name_or_folder(folder):
    runs = find_runs(folder)
    assert [run.name for run in chosen(runs, ["bad", str(folder / "one"), "bad"])] == ["bad", "one"]
    with pytest.raises(ValueError, match=r"no run onne\. Did you mean one"):
        chosen(runs, ["onne"])


def test_settings_that_differ(folder):
    assert differing(chosen(find_runs(folder), ["one", "old/two"])) == {
        "model.num_experts": [4, None],
        "training.epochs": [3, 5],
        "training.seed": [0, 1],
    }
    assert differing(find_runs(folder)[:1]) == {}


def test_of_trained_networks_to_begin_with_only_the_names_differ(folder):
    for name, start in (("one", "birds"), ("old/two", "bees")):
        path = folder / name / "settings.json"
        settings = json.loads(path.read_text())
        path.write_text(json.dumps(settings | {"pretrained": {"from": start, "input": {"size": 28, "channels": 1}}}))
    differ = differing(chosen(find_runs(folder), ["one", "old/two"]))
    assert {name: row for name, row in differ.items() if "pretrained" in name} == {"pretrained.from": ["birds", "bees"]}


def test_deleting_takes_what_training_wrote(folder):
    two, one, bad = find_runs(folder)
    (folder / "one" / "notes.txt").write_text("mine")
    (folder / "one" / ".state.1a2b3c4d.safetensors").write_bytes(b"half")
    assert [path.name for path in delete(one)] == ["notes.txt"]
    assert delete(bad) == [] and not (folder / "bad").exists()
    assert [path.name for path in (folder / "one").iterdir()] == ["notes.txt"]
    assert [run.name for run in find_runs(folder)] == ["old/two"]


def test_a_page_of_one_run_and_of_several(folder):
    one = page(chosen(find_runs(folder), ["one"]))
    # Loss, accuracy, three of the routing's health, and the experts of two routers.
    assert one.count('class="plotly-graph-div"') == 7 and "81.25%" in one
    assert one.count("plotly.js v") == 1 and "Which experts classifier used" in one
    several = page(find_runs(folder))
    assert several.count('class="plotly-graph-div"') == 5 and "model.num_experts" in several
    nothing = page(chosen(find_runs(folder), ["bad"]))
    assert "plotly-graph-div" not in nothing and "failed" in nothing
