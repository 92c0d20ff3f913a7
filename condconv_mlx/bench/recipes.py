"""Training as the shipped weights were trained: images a second, the time of an epoch, and where the time goes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from condconv_mlx.bench.cases import INPUT_SHARE, RECIPES, Recipe
from condconv_mlx.bench.findings import Finding
from condconv_mlx.bench.layer_times import LayerTimes, layer_times
from condconv_mlx.bench.timing import Effort, median_times
from condconv_mlx.checkpoint import list_weights, load_model, named_arrays
from condconv_mlx.data import noise
from condconv_mlx.data.input_cost import input_cost
from condconv_mlx.models import create_model
from condconv_mlx.training import TrainingSettings
from condconv_mlx.training.optimiser import optimizer_for
from condconv_mlx.training.step import step_function

# Random ones, so many that they are no more at hand than a whole data set would be.
IMAGES = 10_000
STEPS = 20


@dataclass(frozen=True)
class RecipeRow:
    """Training of one network on random images of the true shape, by the trainer's own step.

    Attributes:
        weights: their name.
        images: in an epoch.
        batch: images in a step.
        images_per_second, epoch_seconds: input included; without what follows an epoch, which is measuring the network.
        input_ms: until a batch was ready, augmented and normalised; median of some steps.
        step_ms: from then on.
        layers: milliseconds of a step by kind of layer, each layer alone and waited for.
        optimiser_ms: of what changes the weights, alone.
    """

    weights: str
    images: int
    batch: int
    images_per_second: float
    epoch_seconds: float
    input_ms: float
    step_ms: float
    layers: dict[str, LayerTimes]
    optimiser_ms: float

    @property
    def rest_ms(self) -> float:
        """Of a step, what no layer took, such as sums and the loss; below 0 where waiting for each layer costs more."""
        return (
            self.step_ms
            - self.optimiser_ms
            - sum(times.forward_ms + times.backward_ms for times in self.layers.values())
        )

    @property
    def input_share(self) -> float:
        """The part of a whole step that went into its input, in [0, 1]."""
        return self.input_ms / (self.input_ms + self.step_ms)


def shipped(recipes: Sequence[Recipe] = RECIPES) -> list[Recipe]:
    """Those whose weights are here."""
    here = list_weights()
    return [recipe for recipe in recipes if recipe.weights in here]


def measure_recipes(
    recipes: Sequence[Recipe] | None = None, images: int = IMAGES, steps: int = STEPS, effort: Effort | None = None
) -> Iterator[RecipeRow]:
    """A row for each recipe, by default of the weights that are here; `ValueError` if one does not say how to train."""
    effort = effort or Effort(seconds=0, least=3, most=3, turn=0, warm=0)
    for recipe in shipped() if recipes is None else recipes:
        yield _measured(recipe, images, steps, effort)


def _measured(recipe: Recipe, images: int, steps: int, effort: Effort) -> RecipeRow:
    trained = load_model(recipe.weights)
    if "settings" not in trained.info.get("training", {}):
        raise ValueError(f"{recipe.weights} does not say by which settings it was trained")
    settings = TrainingSettings(**trained.info["training"]["settings"])
    model = create_model(**trained.config).train()
    steps_per_epoch = recipe.images // settings.batch_size
    optimizer = optimizer_for(settings, round(settings.epochs * steps_per_epoch), steps_per_epoch)
    optimizer.init(model.trainable_parameters())
    size, channels = trained.info["input"]["size"], trained.info["input"]["channels"]
    dataset = noise("noise", trained.info["labels"], images, (size, size, channels))
    step = _step(model, optimizer, settings)
    cost = input_cost(dataset, settings.augmentation, step, settings.batch_size, steps)
    rate = 1e3 * settings.batch_size / (cost.input_ms + cost.training_ms)
    sample = mx.random.normal((settings.batch_size, *dataset.train_images.shape[1:]))
    return RecipeRow(
        weights=recipe.weights,
        images=recipe.images,
        batch=settings.batch_size,
        images_per_second=rate,
        epoch_seconds=recipe.images / rate,
        input_ms=cost.input_ms,
        step_ms=cost.training_ms,
        layers=layer_times(model, sample, effort),
        optimiser_ms=_update_ms(model, optimizer, effort),
    )


def recipe_findings(rows: Sequence[RecipeRow]) -> list[Finding]:
    """The time of an epoch, and the largest share of the input, beside what they may be."""
    targets = {recipe.weights: recipe.target for recipe in RECIPES}
    findings = [
        Finding(f"Epoch of {row.images:,} images", row.epoch_seconds, target, "s", where=row.weights)
        for row in rows
        if (target := targets.get(row.weights))
    ]
    if rows:
        worst = max(rows, key=lambda row: row.input_share)
        share = Finding("Input, of a step", 100 * worst.input_share, 100 * INPUT_SHARE, "%", where=worst.weights)
        findings.append(share)
    return findings


def _step(
    model: nn.Module, optimizer: optim.Optimizer, settings: TrainingSettings
) -> Callable[[mx.array, mx.array], None]:
    """A step of the trainer, on inputs and targets that are ready."""
    average = dict(named_arrays(model)) if settings.ema else {}
    step_of = step_function(model, optimizer, average, settings, compiled=mx.default_device() != mx.cpu)

    def step(inputs: mx.array, targets: mx.array) -> None:
        parts = list(zip(*(mx.split(each, settings.accumulate) for each in (inputs, targets)), strict=True))
        loss, right = step_of(parts, settings.temperature, settings.ema)
        mx.eval(loss, right, model.state, optimizer.state, average)

    return step


def _update_ms(model: nn.Module, optimizer: optim.Optimizer, effort: Effort) -> float:
    """What it takes to change the weights when the gradients are there."""
    gradients = tree_map(mx.zeros_like, model.trainable_parameters())
    mx.eval(gradients)

    def update() -> None:
        optimizer.update(model, gradients)
        mx.eval(model.state, optimizer.state)

    return median_times({"": update}, effort)[""]
