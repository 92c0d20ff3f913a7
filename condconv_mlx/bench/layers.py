"""Single layers: CondConv beside the static convolution, a loop over the examples, and timm's layer in torch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from condconv_mlx.bench.cases import EXPERTS, SHAPES, Shape
from condconv_mlx.bench.findings import Finding, geometric_mean
from condconv_mlx.bench.operands import operands, options
from condconv_mlx.bench.peers import Peer
from condconv_mlx.bench.timing import Effort, Work, median_times
from condconv_mlx.cpu import cpu_status, set_blas_threads
from condconv_mlx.functional import cond_conv2d


@dataclass(frozen=True)
class LayerRow:
    """Median milliseconds at one shape, by name: `"static"` (`mx.conv2d` with one kernel), `"loop"` (one `mx.conv2d`
    an example), `"condconv"` and, if it is here, `"timm"`. Mixing the kernels is included.

    Attributes:
        forward_ms: the output, as a layer computes it in evaluation mode.
        forward_backward_ms: the output and all gradients, as in training; without the loop.
    """

    shape: Shape
    forward_ms: dict[str, float]
    forward_backward_ms: dict[str, float]


def measure_layers(
    peer: Peer | None, shapes: Sequence[Shape] = SHAPES, experts: int = EXPERTS, effort: Effort | None = None
) -> Iterator[LayerRow]:
    """A row for each shape, in float32."""
    effort = effort or Effort()
    for shape in shapes:
        forward, both = _works(shape, experts)
        if peer:
            forward["timm"], both["timm"] = peer.layer(shape, experts)
        try:
            yield LayerRow(shape, median_times(forward, effort, _set_threads), median_times(both, effort, _set_threads))
        finally:
            _set_threads("condconv")


def _set_threads(name: str) -> None:
    """MLX's own operations get a BLAS thread for each core, which serves them best; ours what `tune_process` set."""
    if cpu_status().parts > 1:
        set_blas_threads(1 if name == "condconv" else cpu_status().cores)


def layer_findings(rows: Sequence[LayerRow]) -> list[Finding]:
    """Geometric means of the ratios over the shapes, and the worst ratio of any shape."""
    findings = []
    for other, forward_target, both_target in (("static", 0.7, 0.6), ("timm", 1.0, 1.0)):
        if any(other not in row.forward_ms for row in rows):
            continue
        forward = [row.forward_ms["condconv"] / row.forward_ms[other] for row in rows]
        both = [row.forward_backward_ms["condconv"] / row.forward_backward_ms[other] for row in rows]
        cases = [(ratio, f"{row.shape}, forward") for ratio, row in zip(forward, rows, strict=True)]
        cases += [(ratio, f"{row.shape}, forward and backward") for ratio, row in zip(both, rows, strict=True)]
        worst, where = max(cases)
        findings += [
            Finding(f"Forward / {other}", geometric_mean(forward), forward_target),
            Finding(f"Forward and backward / {other}", geometric_mean(both), both_target),
            Finding(f"Worst shape / {other}", worst, 2.0, where=where),
        ]
    return findings


def _works(shape: Shape, experts: int) -> tuple[dict[str, Work], dict[str, Work]]:
    """The forward works, and those with the gradients of the input, the routing weights and the kernels."""
    x, routing_weights, bank = operands(shape, experts)
    one = bank[0]
    static = partial(mx.conv2d, **options(shape))
    ours: Callable[..., mx.array] = partial(cond_conv2d, **options(shape))
    cotangent = mx.ones(static(x, one).shape)
    mx.eval(one, cotangent)
    forward: dict[str, Work] = {
        "static": lambda: mx.eval(static(x, one)),
        "loop": lambda: mx.eval(ours(x, routing_weights, bank, strategy="loop", exportable=True)),
        "condconv": lambda: mx.eval(ours(x, routing_weights, bank, exportable=True)),
    }
    both: dict[str, Work] = {
        "static": lambda: mx.eval(mx.vjp(static, [x, one], [cotangent])),
        "condconv": lambda: mx.eval(mx.vjp(ours, [x, routing_weights, bank], [cotangent])),
    }
    return forward, both
