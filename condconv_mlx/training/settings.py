"""How to train, as one flat dataclass that a run records."""

import math
from dataclasses import asdict, dataclass, fields

from condconv_mlx.data.augmentation import Augmentation

# What only says how a run uses the machine, so that it may change when the run is resumed. `epochs` may change too.
OF_THE_MACHINE = ("save_minutes", "save_steps", "cache_gb", "rest")


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. What is 0, False or "auto" by default is off.

    With the cosine schedule the learning rate rises linearly from 0 for `warmup` epochs, then falls to 0 along a
    cosine. The one-cycle schedule (Smith and Topin, arXiv 1708.07120) rises from a 25th along half a cosine for the
    first three tenths of the run, then falls to a 250,000th; the momentum stays as it is. With Muon only the kernels of
    convolutions decay, whatever `decay` says, see `training.muon`.
    """

    epochs: float = 30
    batch_size: int = 128
    optimizer: str = "sgd"  # with Nesterov momentum 0.9; "adamw" or "muon"
    learning_rate: float = 0.1
    schedule: str = "cosine"  # or "one-cycle"
    weight_decay: float = 5e-4
    decay: str = "all"  # parameters that decay; or "kernels": not biases and normalisation
    warmup: float = 1.0
    clip: float = 0.0  # largest norm of all gradients together
    ema: float = 0.0  # decay of the moving average of the weights, by which the model is measured and saved
    label_smoothing: float = 0.1
    balance: float = 0.0  # weight of the loss for unevenly used experts
    temperature: float = 1.0  # of softmax routing at first; falls to 1 along a line
    temperature_epochs: float = 0.0  # in which it falls
    mixing: str = "auto"  # mix "kernels" example by example, or "outputs" of every expert; or what is faster
    precision: str = "float32"  # in which gradients are computed; or "bfloat16"
    accumulate: int = 1  # parts of a batch that go through the network one after the other
    checkpointing: bool = False  # compute blocks twice instead of keeping what they compute
    sync_norm: bool = False  # several processes: batch normalisation over the whole batch
    freeze: bool = False  # train the classifier alone
    shift: int = 2  # this and the next eight are those of `Augmentation`
    flip: bool = True
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    jitter: float = 0.0
    hue: float = 0.0
    policy: int = 0
    magnitude: float = 9.0
    whiten: bool = True  # begin with whitening filters in the model's `stem`, if it has one
    holdout: int = 1000  # training images kept aside, by which the best epoch is chosen
    seed: int = 0
    save_minutes: float = 5.0  # between checkpoints within an epoch
    save_steps: int = 0  # the same in steps
    cache_gb: float | None = None  # memory that MLX keeps for reuse; None is a quarter of the device's
    rest: float = 0.0  # share of the time for which the device is left to others

    def __post_init__(self) -> None:
        for name, choices in (
            ("optimizer", ("sgd", "adamw", "muon")),
            ("schedule", ("cosine", "one-cycle")),
            ("decay", ("all", "kernels")),
            ("mixing", ("auto", "kernels", "outputs")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in choices:
                known = " or ".join(f'"{choice}"' for choice in choices)
                raise ValueError(f'{name} must be {known}, got "{getattr(self, name)}"')
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}")
        for name in ("epochs", "batch_size", "learning_rate", "accumulate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in (
            *("weight_decay", "warmup", "clip", "balance", "temperature_epochs", "holdout", "seed"),
            *("save_minutes", "save_steps"),
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("label_smoothing", "ema", "rest"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.cache_gb is not None and not self.cache_gb >= 0:
            raise ValueError(f"cache_gb must be at least 0, got {self.cache_gb}")
        if (self.temperature != 1) != (self.temperature_epochs > 0):
            raise ValueError(
                f"temperature and temperature_epochs belong together, got {self.temperature:g} and "
                f"{self.temperature_epochs:g}"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(f"a batch of {self.batch_size} images cannot be divided into {self.accumulate} parts")
        if self.augmentation.mixes and self.batch_size < 2:
            raise ValueError("mixup and cutmix want a batch of two images or more")

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training images."""
        return Augmentation(**{field.name: getattr(self, field.name) for field in fields(Augmentation)})
