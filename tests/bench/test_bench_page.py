"""The page: one file, with everything in it, as text and not as markup."""

import os
import re
from dataclasses import replace

import pytest
from bench_material import EXPERTS, LAYERS, MACHINE, MEMORY, NETWORK, RECIPES, TRAINING

from condconv_mlx.bench.experts import expert_findings
from condconv_mlx.bench.layers import layer_findings
from condconv_mlx.bench.measure import Result
from condconv_mlx.bench.memory import memory_findings
from condconv_mlx.bench.network import network_findings
from condconv_mlx.bench.page import _recipes, page, write_page
from condconv_mlx.bench.recipes import recipe_findings
from condconv_mlx.bench.training import training_findings

RESULTS = {
    "layers": Result(LAYERS, layer_findings(LAYERS)),
    "experts": Result(EXPERTS, expert_findings(EXPERTS)),
    "training": Result(TRAINING, training_findings(TRAINING)),
    "recipes": Result(RECIPES, recipe_findings(RECIPES)),
    "network": Result(NETWORK, network_findings(NETWORK)),
    "memory": Result(MEMORY, memory_findings(MEMORY)),
}


@pytest.fixture(scope="module")
def written() -> str:
    return page(MACHINE, RESULTS)


def test_it_needs_nothing_beside_itself(written):
    markup = re.sub(r"<script.*?</script>", "", written, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)\s*=", markup)
    assert not re.search(r"<script[^>]+src=", written)
    # Plotly itself is there, and once.
    assert len(re.findall(r"plotly\.js v\d", written)) == 1


def test_every_section_has_charts_and_verdicts(written):
    assert written.count('class="plotly-graph-div"') == 9
    assert written.count("<section>") == 6
    verdicts = [finding.shown()[2] for result in RESULTS.values() for finding in result.findings]
    assert written.count("<td class=met>") == verdicts.count("met") > 0
    assert written.count("<td class=missed>") == verdicts.count("missed") > 0


def test_names_are_shown_as_they_are(written):
    assert "A &lt;fast&gt; one" in written
    assert "A <fast> one" not in written


def test_light_and_dark(written):
    assert "prefers-color-scheme: dark" in written
    assert "width=device-width" in written


def test_some_sections_alone():
    alone = page(MACHINE, {"training": Result(TRAINING[:1], [])})
    assert alone.count('class="plotly-graph-div"') == 1
    assert "plotly.js v" in alone
    assert "class=findings" not in alone


def test_parts_of_a_step_that_hardly_count_have_no_bar():
    little = replace(RECIPES[0], optimiser_ms=0.5)
    _, (title, figure) = _recipes([little, RECIPES[1]])
    assert title.endswith("from 1% on")
    shown = list(zip(figure.data[0].customdata, figure.data[0].x, strict=True))
    assert ("CondConv convolutions, condconv_small_fashion_mnist", 60.0) in shown
    assert not [name for name, ms in shown if ms < 2 or name.startswith("optimiser, condconv_small_fashion")]


def test_without_shipped_weights_there_is_no_chart_of_recipes():
    empty = page(MACHINE, {"recipes": Result([], recipe_findings([])), "memory": RESULTS["memory"]})
    assert empty.count('class="plotly-graph-div"') == 1
    assert "plotly.js v" in empty


def test_a_page_that_was_there_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "bench.html"
    path.write_text("before")

    def fails(*_):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OSError):
            write_page(path, MACHINE, {"memory": RESULTS["memory"]})
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bench.html"]
    write_page(path, MACHINE, {"memory": RESULTS["memory"]})
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
