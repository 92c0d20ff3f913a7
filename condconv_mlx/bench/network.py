"""One image through EfficientNet-B0 with 8 experts, beside timm's, and where the time goes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.bench.cases import DEPTHWISE, EXPERTS, NORM, POINTWISE, REST, SQUEEZE
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.peers import Peer
from condconv_mlx.bench.timing import Effort, median_times
from condconv_mlx.complexity import watched
from condconv_mlx.layers import Router
from condconv_mlx.models import create_model
from condconv_mlx.models.parts import SqueezeExcite

NETWORK, SIZE = "efficientnet_b0", 224
WHOLE = "whole network"
REPEATS = 7


@dataclass(frozen=True)
class NetworkRow:
    """Milliseconds for one image by name, `"condconv"` and, if it is here, `"timm"`.

    Attributes:
        part: `WHOLE`; or a kind of layer, each layer waited for, so that together they take longer.
    """

    part: str
    ms: dict[str, float]


def measure_network(peer: Peer | None, size: int = SIZE, effort: Effort | None = None) -> Iterator[NetworkRow]:
    """A row for the whole network, and one for each kind of layer."""
    model = create_model(NETWORK, num_classes=1000, num_experts=EXPERTS).eval()
    x = mx.random.normal((1, size, size, 3))
    mx.eval(model.parameters(), x)
    works: dict[str, Callable[[], object]] = {"condconv": lambda: mx.eval(model(x))}
    parts: dict[str, Callable[[], Mapping[str, float]]] = {"condconv": lambda: parts_of(model, x)}
    if peer:
        works["timm"], parts["timm"] = peer.network(size)
    yield NetworkRow(WHOLE, median_times(works, effort or Effort(seconds=3, turn=0.2, warm=0.1)))
    by_side = {name: medians(measure) for name, measure in parts.items()}
    for part in sorted(by_side["condconv"], key=lambda part: -by_side["condconv"][part]):
        yield NetworkRow(part, {name: times.get(part, 0.0) for name, times in by_side.items()})


def medians(measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """The median of each part over some repeats, after one that does not count."""
    measure()
    runs = [measure() for _ in range(REPEATS)]
    return {part: median(run[part] for run in runs) for part in runs[0]}


def parts_of(model: nn.Module, x: mx.array) -> dict[str, float]:
    """Milliseconds by kind of layer, of one forward pass in which each layer is waited for."""
    layers = [(module, kind) for name, module in model.named_modules() if (kind := _kind(name, module))]
    kinds = {id(module): kind for module, kind in layers}
    times = dict.fromkeys(kinds.values(), 0.0)

    def timed(module: nn.Module, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        mx.eval(args)
        start = time.perf_counter()
        output = call(module, *args)
        mx.eval(output)
        times[kinds[id(module)]] += 1e3 * (time.perf_counter() - start)
        return output

    with watched([module for module, _ in layers], timed):
        mx.eval(model(x))
    return times


def network_findings(rows: Sequence[NetworkRow]) -> list[Finding]:
    """How our time compares with timm's."""
    whole = rows[0].ms
    return [Finding("One image / timm's in torch", whole["condconv"] / whole["timm"], 1.0)] if "timm" in whole else []


def _kind(name: str, module: Any) -> str | None:
    """The kind of a layer that is timed as one; None for what contains such layers, or lies in one."""
    if ".squeeze_excite." in name or ".router." in name:
        return None
    if isinstance(module, SqueezeExcite):
        return SQUEEZE
    if "norm" in name or "activation" in name:
        return NORM
    if name.endswith("depthwise"):
        return DEPTHWISE
    if name.endswith(("expand", "project", "head")):
        return POINTWISE
    return REST if name in ("stem", "classifier") or isinstance(module, Router) else None
