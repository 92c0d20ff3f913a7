"""What the tables come to: single figures, beside what they are meant to be."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A figure and its target.

    Attributes:
        name: what it is.
        value: as measured.
        target: the most it should be, or the least if `at_least`.
        unit: of both, `"×"` for a ratio.
        where: what it was measured on, for the worst of several.
    """

    name: str
    value: float
    target: float
    unit: str = "×"
    at_least: bool = False
    where: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return vars(self) | {"met": self.met}

    def shown(self) -> tuple[str, str, str]:
        """The value, the target and the verdict as text."""
        digits = 2 if self.unit == "×" else 0
        value, target = (f"{number:,.{digits}f} {self.unit}" for number in (self.value, self.target))
        return value, f"{'≥' if self.at_least else '≤'} {target}", "met" if self.met else "missed"


def geometric_mean(ratios: Iterable[float]) -> float:
    """The mean in which a half and a double cancel out."""
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logarithms) / len(logarithms))
