"""What is measured: the right works, in turns, and figures that follow from the times."""

import json
import time
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from bench_material import EXPERTS, LAYERS, MACHINE, MEMORY, NETWORK, ONCE, RECIPES, SMALL, TINY, TRAINING, fake_peer

from condconv_mlx import functional as F
from condconv_mlx.bench import SECTIONS, alone, experts, layers, memory, network, recipes, steps, training
from condconv_mlx.bench.cases import LIVE, SHAPES, Shape, TrainingCase
from condconv_mlx.bench.findings import Finding, geometric_mean
from condconv_mlx.bench.machine import describe_machine
from condconv_mlx.bench.measure import MEASURES, Section, measure
from condconv_mlx.bench.text import TITLES, machine_rows, section
from condconv_mlx.bench.timing import median_times
from condconv_mlx.complexity import count
from condconv_mlx.cpu import CpuStatus
from condconv_mlx.layers import CondConv2d
from condconv_mlx.models import create_model
from condconv_mlx.static_layers import Conv2d


def test_works_take_turns_and_the_first_run_of_each_does_not_count(monkeypatch):
    ran, now = [], [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work(name, warm, cold):
        def run():
            # A work is slow when another ran before.
            now[0] += warm if ran and ran[-1] == name else cold
            ran.append(name)

        return run

    times = median_times({"a": work("a", 1, 50), "b": work("b", 2, 70)}, replace(ONCE, least=3, most=9))
    assert times == {"a": 1000.0, "b": 2000.0}
    assert ran.count("a") == ran.count("b") == 6


def test_nobody_always_follows_the_same_one():
    ran = []
    works = {name: lambda name=name: ran.append(name) for name in "abc"}
    median_times(works, replace(ONCE, least=12, most=12))
    followed = {(first, second) for first, second in zip(ran, ran[1:], strict=False) if first != second}
    assert len(followed) == 6


def test_rounds_go_on_for_as_long_as_asked_but_not_for_ever():
    def rounds(**effort):
        ran = []
        median_times({"a": lambda: ran.append(1)}, replace(ONCE, **effort))
        return len(ran) / 2

    assert rounds(seconds=0, least=4, most=9) == 4
    assert rounds(seconds=60, least=1, most=9) == 9


def test_short_works_run_often_in_a_turn_and_the_median_is_taken(monkeypatch):
    lasting, now = iter([9.0, 1, 2, 6]), [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work():
        now[0] += next(lasting)

    # The first of the four runs does not count; the turn is over when 8 seconds of runs are.
    assert median_times({"a": work}, replace(ONCE, turn=8)) == {"a": 2000.0}


def test_shapes_are_those_of_real_convolutions():
    for shape in SHAPES:
        assert shape.in_channels % shape.groups == shape.out_channels % shape.groups == 0
    assert str(Shape(16, 32, 32, 64, 3, stride=2)) == "16×32×32, 32→64, 3×3/2"
    assert str(Shape(1, 14, 672, 672, 5, depthwise=True)) == "1×14×14, 672 each, 5×5"


def test_layers_ask_the_peer_for_the_same_shape():
    calls = []
    rows = list(layers.measure_layers(fake_peer(calls), SMALL, experts=3, effort=ONCE))
    assert [row.shape for row in rows] == list(SMALL)
    assert calls == [entry for shape in SMALL for entry in (("layer", shape, 3), *2 * ["forward"], *2 * ["both"])]
    for row in rows:
        assert list(row.forward_ms) == ["static", "loop", "condconv", "timm"]
        assert list(row.forward_backward_ms) == ["static", "condconv", "timm"]
        assert min([*row.forward_ms.values(), *row.forward_backward_ms.values()]) > 0


def test_each_side_has_the_blas_threads_that_serve_it(monkeypatch):
    threads = []
    monkeypatch.setattr(layers, "cpu_status", lambda: CpuStatus("", "", True, cores=6, parts=4))
    monkeypatch.setattr(layers, "set_blas_threads", threads.append)
    seen = {}
    works = {name: lambda name=name: seen.setdefault(name, threads[-1]) for name in ("static", "condconv")}
    monkeypatch.setattr(layers, "_works", lambda *_: (works, works))
    list(layers.measure_layers(None, SMALL[:1], effort=ONCE))
    assert seen == {"static": 6, "condconv": 1}
    assert threads[-1] == 1


def test_layers_without_a_peer():
    (row,) = layers.measure_layers(None, SMALL[:1], effort=ONCE)
    assert "timm" not in row.forward_ms
    assert [finding.name for finding in layers.layer_findings([row])] == [
        "Forward / static",
        "Forward and backward / static",
        "Worst shape / static",
    ]


def test_forward_is_the_path_of_evaluation_and_both_that_of_training(monkeypatch):
    taken = []

    def spy(x, routing_weights, experts, **options):
        taken.append((options.get("strategy", "auto"), options.get("exportable", False)))
        return F.cond_conv2d(x, routing_weights, experts, **options)

    monkeypatch.setattr(layers, "cond_conv2d", spy)
    list(layers.measure_layers(None, SMALL[:1], effort=ONCE))
    assert set(taken) == {("auto", False), ("auto", True), ("loop", True)}


def test_layer_findings_are_means_and_worst():
    found = {finding.name: finding for finding in layers.layer_findings(LAYERS)}
    assert found["Forward / static"].value == pytest.approx(1.0)  # a half and a double
    assert found["Forward and backward / static"].value == pytest.approx(0.5)
    assert found["Worst shape / static"].value == 2.0
    assert found["Worst shape / static"].where == f"{SMALL[1]}, forward"
    assert found["Forward and backward / timm"].value == pytest.approx(1.0)
    assert found["Worst shape / timm"].where in (f"{SMALL[1]}, forward", f"{SMALL[0]}, forward and backward")


def test_experts_are_counted_at_both_shapes():
    rows = list(experts.measure_experts(SMALL[1], SMALL[0], counts=(1, 3), effort=ONCE))
    assert [(row.shape, row.backward, row.experts) for row in rows] == [
        (SMALL[1], False, 1),
        (SMALL[1], False, 3),
        (SMALL[0], True, 1),
        (SMALL[0], True, 3),
    ]
    assert all(list(row.ms) == ["kernels", "outputs", "static", "product"] for row in rows)


def test_one_number_of_experts_step_by_step():
    for shape, backward in ((SMALL[1], False), (SMALL[0], True)):
        *steps, (share, row) = experts.measure_in_turns(shape, backward, 3, rounds=2)
        assert [*(part for part, _ in steps), share] == pytest.approx(np.arange(1, 13) / 12)
        assert all(nothing is None for _, nothing in steps)
        assert (row.shape, row.backward, row.experts) == (shape, backward, 3)
        assert list(row.ms) == ["kernels", "outputs", "static"] and min(row.ms.values()) > 0


@pytest.mark.parametrize("shape", [*SMALL, *(shape for pair in LIVE.values() for shape in pair)])
def test_multiply_adds_are_those_of_the_layers(shape):
    size = (shape.size, shape.size, shape.in_channels)
    settings = (shape.in_channels, shape.out_channels, shape.kernel)
    place = {"stride": shape.stride, "padding": shape.padding, "groups": shape.groups, "bias": False}
    static = count(Conv2d(*settings, **place), size).madds
    conditional = count(CondConv2d(*settings, num_experts=4, **place), size)
    routing = sum(layer.madds for layer in conditional.layers if "router" in layer.name)
    found = experts.multiply_adds(shape, 4, backward=False)
    assert found["static"] == static
    assert found["kernels"] == conditional.madds - routing
    # Every convolution, and each number that comes out once more, to weigh and add it.
    assert found["outputs"] == 4 * (static + shape.positions * shape.out_channels)
    assert experts.multiply_adds(shape, 4, backward=True) == {name: 3 * madds for name, madds in found.items()}


def test_outputs_are_mixed_by_their_own_strategy(monkeypatch):
    taken = []

    def spy(x, routing_weights, experts, **options):
        taken.append(options.get("strategy", "auto"))
        return F.cond_conv2d(x, routing_weights, experts, **options)

    monkeypatch.setattr(experts, "cond_conv2d", spy)
    list(experts.measure_experts(SMALL[1], SMALL[0], counts=(2,), effort=ONCE))
    # Which one mixes kernels depends on the device. It is not "auto", which could mean the outputs.
    assert "auto" not in taken
    assert len(set(taken)) > 1 and "outputs" in taken


def test_slopes_are_fitted_to_the_forward_pass():
    assert experts.slope(EXPERTS[:3], "kernels") == pytest.approx(0.2)
    (found,) = experts.expert_findings(EXPERTS)
    assert found.value == pytest.approx(2.0)
    assert not found.met


def test_training_learns_and_asks_for_both_settings():
    calls, apart = [], []

    def alone_(side):
        apart.append(side)
        return 12.0

    rows = list(training.measure_training(fake_peer(calls), TINY, ONCE, alone_))
    assert calls == [("training", TINY), "step", "step"]
    assert apart == ["condconv", "timm"]
    assert [row.setting for row in rows] == [training.SHARED, training.ALONE]
    assert rows[1].images_per_second == {"condconv": 12.0, "timm": 12.0}
    (row,) = training.measure_training(None, TINY, ONCE)
    assert list(row.images_per_second) == ["condconv"]
    assert training.training_findings([row]) == []


def test_a_step_changes_every_parameter_of_the_network():
    from mlx.utils import tree_flatten

    network = steps.Network(TrainingCase())
    network.eval()
    assert network(mx.zeros((2, 28, 28, 1))).shape == (2, 10)
    network = steps.Network(TINY)
    before = {name: np.array(value) for name, value in tree_flatten(network.trainable_parameters())}
    images = mx.random.normal((4, 6, 6, 1))
    steps.training_step(network, images, mx.array([0, 1, 2, 0]))()
    for name, value in tree_flatten(network.trainable_parameters()):
        assert not np.array_equal(before[name], np.array(value)), name


def test_training_findings_have_a_target_for_each_setting():
    shared, apart = training.training_findings(TRAINING)
    assert (shared.value, shared.target, shared.met) == (1.5, 1.2, True)
    assert (apart.value, apart.target, apart.met) == (2.0, 3.0, False)


def test_a_failure_apart_is_told_in_one_line(monkeypatch):
    with pytest.raises(OSError, match=r"training of timm alone ended with status 1: .*ModuleNotFoundError"):
        monkeypatch.setattr(alone, "__name__", "condconv_mlx.bench.nothing_of_the_kind")
        monkeypatch.setattr(alone.subprocess, "run", _without_torch(alone.subprocess.run))
        alone.images_per_second("timm", 1, False)


def _without_torch(run):
    def start(command, **options):
        return run([command[0], "-c", "raise ModuleNotFoundError('torch')"], **options)

    return start


def test_alone_prints_what_its_side_measures(monkeypatch):
    monkeypatch.setattr(alone, "TrainingCase", lambda: TINY)
    monkeypatch.setattr(alone, "median_times", lambda works, _: {name: 8.0 for name in works})
    assert alone.main("condconv", "1", "cpu") == 500.0


def test_memory_of_a_small_network():
    static, conditional = memory.measure_memory(batch=4, experts=2, width=4)
    assert (static.experts, conditional.experts) == (None, 2)
    assert static.mixed_bytes == 0 < conditional.mixed_bytes
    assert min(static.peak_bytes, conditional.peak_bytes) > 0


def test_mixed_bytes_are_those_of_a_static_twins_layers():
    model = create_model("condconv_small", num_experts=3, width=4, num_classes=5)
    into, second, third = 6, 18, 24  # channels of the blocks
    convolutions = 3 * 3 * ((into + second) * second + (second + third) * third)
    assert memory.mixed_bytes(model) == 4 * (convolutions + 5 * third)


def test_a_network_and_its_parts():
    calls = []
    rows = list(network.measure_network(fake_peer(calls), 64, ONCE))
    assert calls[0] == ("network", 64) and "network" in calls
    assert rows[0].part == network.WHOLE and set(rows[0].ms) == {"condconv", "timm"}
    assert len(rows) == 6 and all(row.ms["condconv"] > 0 for row in rows)
    by_part = {row.part: row.ms for row in rows}
    assert by_part["depthwise convolutions"]["timm"] == 3.0 and by_part[network.REST]["timm"] == 0.0
    (alone_,) = [row for row in network.measure_network(None, 64, ONCE) if row.part == network.WHOLE]
    assert list(alone_.ms) == ["condconv"] and network.network_findings([alone_]) == []
    (found,) = network.network_findings(NETWORK)
    assert (found.value, found.met) == (1.5, False)


def test_every_layer_with_parameters_is_in_one_part():
    model = create_model(network.NETWORK, num_experts=2).eval()
    timed = [name for name, module in model.named_modules() if network._kind(name, module)]
    for name, module in model.named_modules():
        own = any(isinstance(value, mx.array) for value in module.values())
        above = [place for place in timed if name == place or name.startswith(f"{place}.")]
        assert not own or len(above) == 1, name


def test_the_allowance_is_the_twin_the_kernels_twice_and_a_quarter():
    assert memory.allowance(MEMORY) == 1.25 * 160e6
    (found,) = memory.memory_findings(MEMORY)
    assert found.met and (found.value, found.target) == (200.0, 200.0)


def test_findings_say_whether_they_are_met():
    assert Finding("a", 0.5, 0.7).shown() == ("0.50 ×", "≤ 0.70 ×", "met")
    assert Finding("a", 1.1, 1.2, at_least=True).shown() == ("1.10 ×", "≥ 1.20 ×", "missed")
    assert Finding("a", 1500.4, 1200, unit="MB").shown() == ("1,500 MB", "≤ 1,200 MB", "missed")
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)


def test_the_machine_is_this_one():
    machine = describe_machine(fake_peer([]))
    assert machine.peer == "timm 1, torch 2 on cpu"
    assert 1 <= machine.parts <= machine.cores
    assert machine.device.startswith("cpu" if mx.default_device() == mx.cpu else "gpu")
    assert machine.processor
    shown = dict(machine_rows(describe_machine(None)))
    assert "not installed" in shown["Beside"]


def test_every_section_is_measured_and_written():
    assert tuple(MEASURES) == tuple(TITLES) == SECTIONS


def test_measuring_shows_how_far_it_is(monkeypatch):
    counted = []

    def watch(rows, count):
        counted.append(count)
        return rows

    monkeypatch.setitem(MEASURES, "memory", Section(lambda _: iter(MEMORY), lambda _: 2, memory.memory_findings))
    result = measure("memory", None, watch)
    assert counted == [2]
    plain = json.loads(json.dumps(result.as_json()))
    assert plain["rows"][1] == {"experts": 8, "peak_bytes": 200_000_000, "mixed_bytes": 30_000_000}
    assert plain["findings"][0]["met"] is True


def test_text_has_every_figure():
    shown = section("layers", LAYERS, layers.layer_findings(LAYERS))
    assert "2×6×6, 4→6, 3×3/2" in shown
    assert "timm + backward" in shown
    assert "2.00 ×  ≤ 2.00 ×     met  (1×5×5, 3 each, 3×3, forward)" in shown
    shown = section("experts", EXPERTS, experts.expert_findings(EXPERTS))
    assert "2×6×6, 4→6, 3×3/2, forward and backward        4" in shown
    shown = section("training", TRAINING, training.training_findings(TRAINING))
    assert "in one process" in shown and "missed" in shown
    shown = section("recipes", RECIPES, recipes.recipe_findings(RECIPES))
    (line,) = [line for line in shown.splitlines() if "condconv_small_fashion_mnist  " in line]
    assert line.split()[1:] == ["100", "1,280", "46.9"]
    assert "-12.00" in shown
    assert "random images" in shown and "Epoch of 60,000 images  47 s  ≤ 60 s" in shown and "10 %" in shown
    shown = section("network", NETWORK, network.network_findings(NETWORK))
    assert "whole network" in shown and "1.50 ×" in shown
    shown = section("memory", MEMORY, memory.memory_findings(MEMORY))
    assert "100" in shown and "60" in shown
    assert dict(machine_rows(MACHINE))["Strategies"].startswith("3 cases tuned")
    assert dict(machine_rows(MACHINE))["Processor"] == "A <fast> one, 2 cores, load 0.5 at the start"
    assert "ours in 2 parts with one BLAS thread each, `mx.conv2d` with 2 threads" in dict(machine_rows(MACHINE))["CPU"]
