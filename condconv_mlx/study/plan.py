"""Which networks a question compares, and the runs that this takes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from condconv_mlx.complexity import count
from condconv_mlx.models import create_model
from condconv_mlx.models.condconv_small import CHANNELS
from condconv_mlx.study import QUESTIONS

EXPERTS = 8
COUNTS = (1, 2, 4, 8, 16)
FEW = 4  # experts up to which the paper mixes outputs in training
DROPOUT = 0.1
MIXUP = 0.2
TEMPERATURE = 30.0  # at which Dynamic Convolution begins
LONGER = 3  # times the epochs
SEEDS = {"static": 5}
FEWER_SEEDS = 3  # of the other questions


@dataclass(frozen=True)
class Recipe:
    """What all runs share: data, size of the network, and how it is trained.

    Attributes:
        data: as for `load_dataset`.
        images: training images, the same for all; all there are if there are fewer.
        width: channels of the stem.
        epochs: passes over them.
        batch_size, learning_rate, shift, flip: see `TrainingSettings`; the rest are its defaults.
    """

    data: str = "fashion_mnist"
    images: int = 20_000
    width: int = 8
    epochs: float = 6
    batch_size: int = 128
    learning_rate: float = 0.1
    shift: int = 2
    flip: bool = True


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: shown.
        model: settings of `condconv_small` beside the recipe's width.
        training: settings of `TrainingSettings` beside the recipe's.
    """

    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """Arms, and which of them are compared: (a, b) by name, for the difference a - b."""

    name: str
    arms: tuple[Arm, ...]
    comparisons: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Run:
    """One training, all that decides its result, in plain JSON. Runs that two questions share are made once."""

    data: str
    images: int
    model: Mapping[str, Any]
    training: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """A name for its file."""
        text = json.dumps([self.data, self.images, self.model, self.training], sort_keys=True)
        experts = self.model["num_experts"]
        kind = "static" if experts is None else f"{experts}-experts"
        return f"{kind}-seed{self.training['seed']}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def cost(self) -> float:
        """Images that pass through the network in training."""
        return self.images * self.training["epochs"]


def questions(recipe: Recipe, shape: Sequence[int], classes: int, names: Sequence[str] = QUESTIONS) -> list[Question]:
    """The questions of these names, for images of `shape` (H, W, C). `ValueError` for other names."""
    if unknown := [name for name in names if name not in QUESTIONS]:
        raise ValueError(f'questions are {", ".join(QUESTIONS)}, got "{unknown[0]}"')
    static = Arm("static", {"num_experts": None})
    base = Arm("CondConv", {"num_experts": EXPERTS})
    made = {
        "static": lambda: _static(static, base, recipe, shape, classes),
        "experts": lambda: _experts(static),
        "start": lambda: _start(static),
        "routing": lambda: _routing(recipe),
        "routers": _routers,
        "regularisation": lambda: _regularisation(static, base),
        "longer": lambda: _longer(static, base, recipe),
        "modes": _modes,
    }
    return [made[name]() for name in QUESTIONS if name in names]


def runs(recipe: Recipe, question: Question, shape: Sequence[int], seeds: int | None = None) -> dict[str, list[Run]]:
    """The runs of a question by the name of their arm, a seed each: 0, 1, …"""
    count = seeds or SEEDS.get(question.name, FEWER_SEEDS)
    return {arm.name: [_run(recipe, arm, shape[2], seed) for seed in range(count)] for arm in question.arms}


def _run(recipe: Recipe, arm: Arm, channels: int, seed: int) -> Run:
    names = ("epochs", "batch_size", "learning_rate", "shift", "flip")
    shared = {name: getattr(recipe, name) for name in names}
    # Nothing is held out: the last weights are tested, and no epoch is chosen.
    training = {**shared, "holdout": 0, "seed": seed, **arm.training}
    model = {"width": recipe.width, "in_channels": channels, **arm.model}
    return Run(recipe.data, recipe.images, model, training)


def _static(static: Arm, base: Arm, recipe: Recipe, shape: Sequence[int], classes: int) -> Question:
    channels = widened(recipe.width, EXPERTS, shape, classes)
    wide = Arm("static, widened", {"num_experts": None, "channels": channels})
    return Question("static", (static, wide, base), ((base.name, static.name), (base.name, wide.name)))


def _experts(static: Arm) -> Question:
    arms = [Arm(f"{number} expert{'s' * (number > 1)}", {"num_experts": number}) for number in COUNTS]
    first = arms[0]
    pairs = [(first.name, static.name), *((arm.name, first.name) for arm in arms[1:])]
    return Question("experts", (static, *arms), tuple(pairs))


def _start(static: Arm) -> Question:
    names = ("from the first block", "from the second block", "from the third block", "the classifier alone")
    arms = [
        # Block 1 is the default, said as other questions say it, so that they share its runs.
        Arm(name, {"num_experts": EXPERTS} | ({} if block == 1 else {"conditional_from": block}))
        for block, name in enumerate(names)
    ]
    return Question("start", (static, *arms), tuple((arm.name, static.name) for arm in arms))


def _routing(recipe: Recipe) -> Question:
    softmax = {"num_experts": EXPERTS, "routing": "softmax"}
    cooled = {"temperature": TEMPERATURE, "temperature_epochs": recipe.epochs / 2}
    arms = (
        Arm("sigmoid", {"num_experts": EXPERTS}),
        Arm("softmax", softmax),
        Arm("softmax, cooled", softmax, cooled),
    )
    return Question("routing", arms, tuple((arm.name, "sigmoid") for arm in arms[1:]))


def _routers() -> Question:
    usual = Arm("one a block", {"num_experts": EXPERTS})
    other = Arm("one a layer", {"num_experts": EXPERTS, "separate_routers": True})
    return Question("routers", (usual, other), ((other.name, usual.name),))


def _regularisation(static: Arm, base: Arm) -> Question:
    dropped = {"num_experts": EXPERTS, "router_dropout": DROPOUT}
    mixed = {"mixup": MIXUP}
    arms = (
        static,
        Arm("static, mixup", static.model, mixed),
        base,
        Arm("CondConv, routing dropout", dropped),
        Arm("CondConv, mixup", base.model, mixed),
        Arm("CondConv, both", dropped, mixed),
    )
    pairs = [(arm.name, base.name) for arm in arms[3:]]
    return Question("regularisation", arms, (*pairs, (arms[1].name, static.name), (arms[4].name, arms[1].name)))


def _longer(static: Arm, base: Arm, recipe: Recipe) -> Question:
    long = {"epochs": LONGER * recipe.epochs}
    arms = (static, base, *(Arm(f"{arm.name}, longer", arm.model, long) for arm in (static, base)))
    return Question("longer", arms, ((base.name, static.name), (arms[3].name, arms[2].name)))


def _modes() -> Question:
    arms = tuple(Arm(f"mixing {what}", {"num_experts": FEW}, {"mixing": what}) for what in ("kernels", "outputs"))
    return Question("modes", arms, ((arms[1].name, arms[0].name),))


def widened(width: int, experts: int, shape: Sequence[int], classes: int) -> list[int]:
    """Channels of the blocks of the smallest static network that multiplies as much as the one with experts, or more.

    All three blocks grow by one factor, rounded to whole channels; the stem stays.
    """

    def madds(**options: Any) -> int:
        model = create_model("condconv_small", num_classes=classes, in_channels=shape[2], width=width, **options)
        return count(model, shape).madds

    wanted = madds(num_experts=experts)
    usual = [share * width for share in CHANNELS]
    factor = 1.0
    while madds(num_experts=None, channels=(channels := [round(factor * c) for c in usual])) < wanted:
        factor += 0.25 / usual[-1]
    return channels
