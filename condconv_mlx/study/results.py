"""What the finished runs of each question come to."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from condconv_mlx.study.plan import Question, Recipe, runs
from condconv_mlx.study.runner import finished
from condconv_mlx.study.statistics import Estimate, estimate

TARGET = 0.3  # points by which CondConv should be ahead of a static twin, with its interval above zero


@dataclass(frozen=True)
class ArmResult:
    """One network of a question, over its seeds.

    Attributes:
        name: of the arm.
        multiply_adds, parameters: of the network.
        test_accuracy: in per cent, by seed. A seed that is not done is missing.
        accuracy: their mean and interval, in per cent.
        train_accuracy: in the last epoch, on training images as augmented, in per cent; mean over the seeds.
        images_per_second: in training, median over the seeds; by the time of the processor where that computed.
        first_loss: mean loss of the first epoch, mean over the seeds.
        routing: by router, the mean over the seeds of each number of `explain.Usage` but the experts'.
    """

    name: str
    multiply_adds: int
    parameters: int
    test_accuracy: dict[int, float]
    accuracy: Estimate
    train_accuracy: float
    images_per_second: float
    first_loss: float
    routing: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Comparison:
    """The test accuracy of `arm` less that of `other`, in points, over the seeds that both have."""

    arm: str
    other: str
    differences: dict[int, float]
    estimate: Estimate

    @property
    def verdict(self) -> str:
        """ "ahead", "behind", or "open" where the interval has zero in it, or there is none."""
        low, high = self.estimate.low, self.estimate.high
        if low is None or high is None or low <= 0 <= high:
            return "open"
        return "ahead" if low > 0 else "behind"

    @property
    def reaches_target(self) -> bool:
        """Whether it is ahead by TARGET or more, and surely ahead at all."""
        return self.verdict == "ahead" and self.estimate.mean >= TARGET


@dataclass(frozen=True)
class Answer:
    """A question with what is known so far; arms and comparisons without a finished run are left out."""

    question: str
    arms: list[ArmResult]
    comparisons: list[Comparison]
    missing: int  # runs still to be done
    devices: list[str]  # that computed, and with which versions of this package, and on which days
    versions: list[str]
    days: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, with the verdict of each comparison."""
        plain = asdict(self)
        for row, comparison in zip(plain["comparisons"], self.comparisons, strict=True):
            row |= {"verdict": comparison.verdict, "reaches_target": comparison.reaches_target}
        return plain


def answer(recipe: Recipe, question: Question, folder: Path, shape: Sequence[int], seeds: int | None = None) -> Answer:
    """Gather the finished runs of a question from the folder of a study."""
    results, missing = {}, 0
    for name, planned in runs(recipe, question, shape, seeds).items():
        found = {run.training["seed"]: finished(folder, run) for run in planned}
        missing += sum(result is None for result in found.values())
        if done := {seed: result for seed, result in found.items() if result}:
            results[name] = done
    accuracy = {
        name: {seed: 100 * run["test_accuracy"] for seed, run in done.items()} for name, done in results.items()
    }
    comparisons = []
    for arm, other in question.comparisons:
        both = [seed for seed in accuracy.get(arm, {}) if seed in accuracy.get(other, {})]
        if both:
            differences = {seed: accuracy[arm][seed] - accuracy[other][seed] for seed in both}
            comparisons.append(Comparison(arm, other, differences, estimate(list(differences.values()))))
    every = [run for done in results.values() for run in done.values()]
    return Answer(
        question=question.name,
        arms=[_arm(name, done) for name, done in results.items()],
        comparisons=comparisons,
        missing=missing,
        devices=sorted({run["device"] for run in every}),
        versions=sorted({run["version"] for run in every}),
        days=sorted({run["finished"][:10] for run in every}),
    )


def _arm(name: str, done: dict[int, dict[str, Any]]) -> ArmResult:
    results = list(done.values())
    accuracy = {seed: 100 * run["test_accuracy"] for seed, run in done.items()}
    routing = [run["routing"] for run in results]
    return ArmResult(
        name=name,
        multiply_adds=results[0]["multiply_adds"],
        parameters=results[0]["parameters"],
        test_accuracy=accuracy,
        accuracy=estimate(list(accuracy.values())),
        train_accuracy=100 * mean(run["epochs"][-1]["accuracy"] for run in results),
        images_per_second=median(map(_speed, results)),
        first_loss=mean(run["epochs"][0]["loss"] for run in results),
        routing={
            router: {
                what: mean(each[router][what] for each in routing) for what in ("entropy", "saturated", "deviation")
            }
            for router in routing[0]
        },
    )


def _speed(result: dict[str, Any]) -> float:
    on_cpu = "cpu" in result["device"]
    images = result["train_images"] * result["run"]["training"]["epochs"]
    return images / result["cpu_seconds" if on_cpu else "seconds"]
