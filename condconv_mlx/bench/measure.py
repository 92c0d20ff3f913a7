"""All sections, measured one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from condconv_mlx.bench.cases import EXPERT_COUNTS, SHAPES
from condconv_mlx.bench.experts import expert_findings, measure_experts
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.layers import layer_findings, measure_layers
from condconv_mlx.bench.memory import measure_memory, memory_findings
from condconv_mlx.bench.network import measure_network, network_findings
from condconv_mlx.bench.peers import Peer
from condconv_mlx.bench.recipes import measure_recipes, recipe_findings, shipped
from condconv_mlx.bench.training import measure_training, training_findings


@dataclass(frozen=True)
class Section:
    """How a section is measured: its rows, how many there will be, and what they come to."""

    measure: Callable[[Peer | None], Iterator[Any]]
    count: Callable[[Peer | None], int]
    findings: Callable[[Sequence[Any]], list[Finding]]


@dataclass(frozen=True)
class Result:
    """A section as measured."""

    rows: list[Any]
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "findings": [finding.as_json() for finding in self.findings],
        }


MEASURES = {
    "layers": Section(measure_layers, lambda _: len(SHAPES), layer_findings),
    "experts": Section(lambda _: measure_experts(), lambda _: 2 * len(EXPERT_COUNTS), expert_findings),
    "training": Section(measure_training, lambda peer: 2 if peer else 1, training_findings),
    "recipes": Section(lambda _: measure_recipes(), lambda _: len(shipped()), recipe_findings),
    "network": Section(measure_network, lambda _: 6, network_findings),
    "memory": Section(lambda _: measure_memory(), lambda _: 2, memory_findings),
}


def measure(name: str, peer: Peer | None, watch: Callable[[Iterator[Any], int], Any]) -> Result:
    """Measure a section; `watch` is given the rows to come and their number, and hands them on."""
    section = MEASURES[name]
    rows = list(watch(section.measure(peer), section.count(peer)))
    return Result(rows, section.findings(rows))
