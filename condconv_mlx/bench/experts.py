"""The paper's argument: what more experts cost when their kernels are mixed, and when their outputs are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import mlx.core as mx
import numpy as np

from condconv_mlx.bench.cases import EXPERT_COUNTS, INFERENCE_SHAPE, TRAINING_SHAPE, Shape
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.operands import operands, options
from condconv_mlx.bench.timing import Effort, Work, in_turns, median_times
from condconv_mlx.functional import cond_conv2d
from condconv_mlx.functional.choice import choose
from condconv_mlx.functional.defaults import OUTPUTS
from condconv_mlx.functional.geometry import Geometry
from condconv_mlx.functional.static import conv2d

# What is measured in turns, and in how many rounds.
IN_TURNS = ("kernels", "outputs", "static")
ROUNDS = 7


@dataclass(frozen=True)
class ExpertRow:
    """Median milliseconds with one number of experts, by name: `"kernels"` (mix them, convolve once), `"outputs"`
    (convolve with each, mix what comes out), `"static"` (convolve with one kernel for all images), `"product"` (routing
    weights times experts, no convolution).

    Attributes:
        shape: of the convolution.
        backward: whether the gradients are included.
        experts: how many.
    """

    shape: Shape
    backward: bool
    experts: int
    ms: dict[str, float]


def measure_experts(
    inference: Shape = INFERENCE_SHAPE,
    training: Shape = TRAINING_SHAPE,
    counts: Sequence[int] = EXPERT_COUNTS,
    effort: Effort | None = None,
) -> Iterator[ExpertRow]:
    """A row for each number of experts: the forward pass at one shape, forward and backward at the other."""
    for shape, backward in ((inference, False), (training, True)):
        for count in counts:
            # Mixing 32 outputs of a batch takes seconds, so three rounds have to do.
            yield ExpertRow(
                shape, backward, count, median_times(_works(shape, count, backward), effort or Effort(least=3))
            )


def measure_in_turns(
    shape: Shape, backward: bool, experts: int, rounds: int = ROUNDS
) -> Iterator[tuple[float, ExpertRow | None]]:
    """One number of experts, a run or some 30 ms at a step: the share that is done, and at last the row.

    Without the product.
    """
    all_works = _works(shape, experts, backward)
    works = {name: all_works[name] for name in IN_TURNS}
    effort = Effort(seconds=0, least=rounds, most=rounds, warm=0)
    steps = 2 * rounds * len(works)
    for step, times in enumerate(in_turns(works, effort), 1):
        ms = {name: median(taken) for name, taken in times.items()} if step == steps else None
        yield step / steps, ExpertRow(shape, backward, experts, ms) if ms else None


def multiply_adds(shape: Shape, experts: int, backward: bool) -> dict[str, int]:
    """For one image, by the names of an `ExpertRow`. Each gradient takes as many as the output."""
    convolution, passes = shape.positions * shape.parameters, 3 if backward else 1
    return {
        "kernels": passes * (convolution + experts * shape.parameters),
        "outputs": passes * experts * (convolution + shape.positions * shape.out_channels),
        "static": passes * convolution,
    }


def expert_findings(rows: Sequence[ExpertRow]) -> list[Finding]:
    """How the forward pass grows with an expert more, beside the product that it cannot do without."""
    forward = [row for row in rows if not row.backward]
    ratio = slope(forward, "kernels") / slope(forward, "product")
    return [Finding("Cost of an expert / that of the product alone", ratio, 1.5, where=str(forward[0].shape))]


def slope(rows: Sequence[ExpertRow], name: str) -> float:
    """Milliseconds an expert, by least squares over rows of one shape."""
    return float(np.polyfit([row.experts for row in rows], [row.ms[name] for row in rows], 1)[0])


def _works(shape: Shape, experts: int, backward: bool) -> dict[str, Work]:
    x, routing_weights, bank = operands(shape, experts)
    flat, one = bank.reshape(experts, -1), bank[0]
    mx.eval(flat, one)
    conv = partial(cond_conv2d, **options(shape), exportable=not backward)
    # With a number of experts, "auto" could mean to mix the outputs.
    pads = (shape.padding, shape.padding)
    geometry = Geometry((shape.stride, shape.stride), (pads, pads), (1, 1), shape.groups)
    strategy = choose(x, bank.shape[1:], None, geometry, training=backward)
    functions: dict[str, tuple[Callable[..., mx.array], list[mx.array]]] = {
        "kernels": (partial(conv, strategy=strategy), [x, routing_weights, bank]),
        "outputs": (partial(conv, strategy=OUTPUTS), [x, routing_weights, bank]),
        "static": (partial(conv2d, **options(shape), exportable=not backward), [x, one]),
        "product": (mx.matmul, [routing_weights, flat]),
    }
    return {name: _work(function, arrays, backward) for name, (function, arrays) in functions.items()}


def _work(function: Callable[..., mx.array], arrays: list[mx.array], backward: bool) -> Work:
    if not backward:
        return lambda: mx.eval(function(*arrays))
    cotangent = mx.ones(function(*arrays).shape)
    mx.eval(cotangent)
    return lambda: mx.eval(mx.vjp(function, arrays, [cotangent]))
