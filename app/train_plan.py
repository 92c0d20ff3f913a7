"""What a training is to be, and the arguments of `condconv-mlx train` that say so."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from condconv_mlx.cli.training_arguments import flag
from condconv_mlx.runs.process import COMMAND
from condconv_mlx.training import TrainingSettings


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    Attributes:
        title: a word or two.
        what: a sentence.
        options: values of settings that differ from the usual ones.
        starts: whether it begins with a trained network.
    """

    title: str
    what: str
    options: dict[str, Any]
    starts: bool = False


RECIPES = {
    "quick": Recipe("Quick", "A first look, in a few passes over the images.", {"epochs": 5}),
    "thorough": Recipe(
        "Thorough",
        "Longer, and with images that vary more, since CondConv over-fits: as the weights that come along.",
        {"epochs": 30, "warmup": 2.0, "weight_decay": 0.001, "decay": "kernels", "shift": 4, "cutout": 8},
    ),
    "fine-tune": Recipe(
        "Fine-tune",
        "Begin with a trained network: for few pictures, or little time.",
        {"epochs": 5},
        starts=True,
    ),
}
# What the command line takes where nothing is said. None leaves the choice to it.
USUAL: dict[str, Any] = {field.name: field.default for field in fields(TrainingSettings)} | {
    "model": "condconv_small",
    "experts": 8,
    "norm": "batch",
    "routing": "sigmoid",
    "data": None,
    "epochs": None,
    "learning_rate": None,
    "weight_decay": None,
    "holdout": None,
}
# What the time of a step does not depend on.
FREE = ("epochs", "seed", "learning_rate", "weight_decay", "label_smoothing", "schedule", "warmup")


@dataclass(frozen=True)
class Plan:
    """A training to come.

    Attributes:
        options: settings by the names that `condconv-mlx train` has for them.
        network: in a word.
        experts: of each layer, None for a static network.
    """

    options: dict[str, Any]
    network: str
    experts: int | None

    @property
    def arguments(self) -> list[str]:
        """Of `condconv-mlx train`, without `--out`: what differs from the usual."""
        return arguments(self.options)

    @property
    def timed(self) -> list[str]:
        """The arguments that the time of a step depends on."""
        return arguments({name: value for name, value in self.options.items() if name not in FREE})

    @property
    def settings(self) -> dict[str, Any]:
        """What is known of the run before its first step, see `runs.finding.Run`."""
        return {
            "data": self.options["data"],
            "model": self.network,
            "model.num_experts": self.experts,
            "training.epochs": self.options["epochs"],
        }

    @property
    def name(self) -> str:
        """What to call it."""
        data = self.options["data"]
        parts = [Path(data.removeprefix("folder:")).name.removesuffix(".zip") if data.startswith("folder:") else data]
        if self.network != USUAL["model"]:
            parts.append(self.network)
        parts.append("static" if self.experts is None else f"{self.experts}-experts")
        if self.options.get("start"):
            parts.append("fine-tuned")
        name = "".join(letter if letter.isalnum() or letter in ".+-_ " else "-" for letter in "-".join(parts))
        return name.lstrip(".+- ")[:70] or "run"


def arguments(options: dict[str, Any]) -> list[str]:
    """Words of the command line for settings that differ from the usual."""
    words = []
    for name, value in options.items():
        if value == USUAL.get(name) and type(value) is type(USUAL.get(name)):
            continue
        if isinstance(value, bool):
            words.append(flag(name))
        else:
            said = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            words += [flag(name), said]
    return words


def command_line(arguments: Sequence[str], out: Path) -> str:
    """The same for a shell."""
    return shlex.join([*COMMAND, *arguments, "--out", str(out)])
