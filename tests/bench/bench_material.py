"""Small things to measure, and another implementation that does nothing."""

import time

from condconv_mlx.bench.cases import CONDITIONAL, STATIC, Shape, TrainingCase
from condconv_mlx.bench.experts import ExpertRow
from condconv_mlx.bench.layer_times import LayerTimes
from condconv_mlx.bench.layers import LayerRow
from condconv_mlx.bench.machine import Machine
from condconv_mlx.bench.memory import MemoryRow
from condconv_mlx.bench.network import WHOLE, NetworkRow
from condconv_mlx.bench.peers import Peer
from condconv_mlx.bench.recipes import RecipeRow
from condconv_mlx.bench.timing import Effort
from condconv_mlx.bench.training import ALONE, SHARED, TrainingRow

ONCE = Effort(seconds=0, least=1, most=1, turn=0, warm=0)
SMALL = (Shape(2, 6, 4, 6, 3, stride=2), Shape(1, 5, 3, 3, 3, depthwise=True))
TINY = TrainingCase(convolutions=((1, 2, 1), (2, 3, 2)), experts=2, size=6, batch=4, classes=3)


def fake_peer(calls: list) -> Peer:
    """A peer that writes into `calls` what it was asked for and what ran."""

    def work(name):
        def run():
            calls.append(name)
            time.sleep(1e-4)

        return run

    def layer(shape, experts):
        calls.append(("layer", shape, experts))
        return work("forward"), work("both")

    def training_step(case):
        calls.append(("training", case))
        return work("step")

    def network(size):
        calls.append(("network", size))
        return work("network"), lambda: {"depthwise convolutions": 3.0}

    return Peer("timm 1, torch 2", "cpu", layer, training_step, network)


MACHINE = Machine(
    date="2026-01-02 03:04+00:00",
    version="0.1.0",
    system="Linux-6",
    processor="A <fast> one",
    cores=2,
    parts=2,
    load=0.5,
    mlx="0.32.1",
    device="cpu, A <fast> one",
    blas="OpenBLAS 0.3",
    memory_kept=True,
    tuned=3,
    peer="timm 1, torch 2 on cpu",
)
LAYERS = [
    LayerRow(
        SMALL[0],
        {"static": 1.0, "loop": 1.5, "condconv": 0.5, "timm": 1.0},
        {"static": 4.0, "condconv": 2.0, "timm": 1.0},
    ),
    LayerRow(
        SMALL[1],
        {"static": 2.0, "loop": 2.5, "condconv": 4.0, "timm": 2.0},
        {"static": 1.0, "condconv": 0.5, "timm": 1.0},
    ),
]
EXPERTS = [
    ExpertRow(shape, backward, n, {"kernels": 1 + 0.2 * n, "outputs": 1.0 * n, "static": 1.0, "product": 0.1 * n})
    for shape, backward in ((SMALL[1], False), (SMALL[0], True))
    for n in (1, 2, 4)
]
TRAINING = [
    TrainingRow(SHARED, {"condconv": 300.0, "timm": 200.0}),
    TrainingRow(ALONE, {"condconv": 300.0, "timm": 150.0}),
]
MEMORY = [MemoryRow(None, 100_000_000, 0), MemoryRow(8, 200_000_000, 30_000_000)]
NETWORK = [
    NetworkRow(WHOLE, {"condconv": 60.0, "timm": 40.0}),
    NetworkRow("depthwise convolutions", {"condconv": 30.0, "timm": 10.0}),
]
RECIPES = [
    RecipeRow(
        "condconv_small_fashion_mnist",
        images=60_000,
        batch=128,
        images_per_second=1280.0,
        epoch_seconds=46.875,
        input_ms=2.0,
        step_ms=98.0,
        layers={STATIC: LayerTimes(10.0, 20.0), CONDITIONAL: LayerTimes(15.0, 45.0)},
        optimiser_ms=3.0,
    ),
    RecipeRow(
        "condconv_small_static_cifar10",
        images=50_000,
        batch=128,
        images_per_second=640.0,
        epoch_seconds=78.125,
        input_ms=20.0,
        step_ms=180.0,
        layers={STATIC: LayerTimes(70.0, 120.0)},
        optimiser_ms=2.0,
    ),
]
