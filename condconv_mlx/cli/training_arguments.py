"""The arguments of `condconv-mlx train`, by group. Each has the name of the setting that it sets."""

import argparse
from pathlib import Path
from typing import Any

from condconv_mlx.cli.arguments import at_least_one, experts
from condconv_mlx.cli.datasets import NAMES
from condconv_mlx.cli.download import add_yes

# What belongs to the network. A run that goes on has it from its folder.
OF_THE_MODEL = ("model", "experts", "width", "router_dropout", "routing", "norm")
# By optimizer, where nothing is said. The learning rate is its peak.
RATES = {
    "sgd": {"learning_rate": 0.1, "weight_decay": 5e-4},
    "adamw": {"learning_rate": 0.002, "weight_decay": 0.05},
    "muon": {"learning_rate": 0.03, "weight_decay": 0.015},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare all of them."""
    _data_and_run(parser.add_argument_group("data and run"))
    _model(parser.add_argument_group("network"))
    _optimisation(parser.add_argument_group("optimisation"))
    _routing(parser.add_argument_group("routing"))
    _augmentation(parser.add_argument_group("augmentation"))
    _machine(parser.add_argument_group("machine"))


def flag(name: str) -> str:
    """What sets a setting on the command line."""
    names = {"flip": "no-flip", "whiten": "no-whiten", "start": "from"}
    return "--" + names.get(name, name.replace("_", "-"))


def _data_and_run(group: Any) -> None:
    group.add_argument("--data", default="cifar10", help=f"{NAMES} (default: cifar10)")
    group.add_argument(
        "--size",
        type=at_least_one,
        metavar="PIXELS",
        help="side of the images of folder:PATH (default: theirs, up to 64, if most are square and alike; else 32)",
    )
    group.add_argument("--out", type=Path, help="folder of the run (default: runs/MODEL-DATA)")
    group.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the run in this folder; with --epochs, for longer"
    )
    group.add_argument("--epochs", type=float, help="passes over the training images (default: 30)")
    group.add_argument("--batch-size", type=int, help="images a step (default: 128)")
    group.add_argument(
        "--holdout",
        type=int,
        help="training images kept aside to choose the best epoch (default: 1000, at most a tenth)",
    )
    group.add_argument("--seed", type=int, help="default: 0")
    group.add_argument(
        "--estimate", action="store_true", help="measure a few steps, say how long it will take, and train nothing"
    )
    group.add_argument("--json", action="store_true", help="print the summary as JSON")


def _model(group: Any) -> None:
    group.add_argument("--model", default="condconv_small", help="architecture (default: condconv_small)")
    group.add_argument(
        "--experts", type=experts, default=8, help='experts of each layer, or "none" for the static twin (default: 8)'
    )
    group.add_argument(
        "--width",
        type=_width,
        help="channels of condconv_small's stem, or a factor for mobilenet_v1 (default: its own)",
    )
    group.add_argument(
        "--norm",
        choices=("batch", "group", "layer"),
        default="batch",
        help="normalisation; group serves small batches better (default: batch)",
    )
    group.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="begin with a trained model, for other classes with a new classifier: a name or a file, as for predict",
    )
    group.add_argument("--freeze", action="store_true", default=None, help="with --from: train the classifier alone")
    add_yes(group)


def _optimisation(group: Any) -> None:
    group.add_argument(
        "--optimizer",
        choices=tuple(RATES),
        help="default: sgd, with Nesterov momentum 0.9; muon learns in fewer epochs, and a step takes a tenth longer",
    )

    def usual(setting: str) -> str:
        return ", ".join(f"{values[setting]:g} for {name}" for name, values in RATES.items())

    help = f"its peak (default: {usual('learning_rate')}; with --from a tenth)"
    group.add_argument("--learning-rate", type=float, help=help)
    group.add_argument(
        "--schedule", choices=("cosine", "one-cycle"), help="one-cycle rises for three tenths (default: cosine)"
    )
    group.add_argument("--warmup", type=float, help="epochs in which cosine rises first (default: 1)")
    group.add_argument("--weight-decay", type=float, help=f"default: {usual('weight_decay')}")
    group.add_argument(
        "--decay",
        choices=("all", "kernels"),
        help="what decays; kernels leaves out biases and norms, as for the shipped weights (default: all)",
    )
    group.add_argument("--clip", type=float, metavar="NORM", help="largest norm of the gradients; 1 is usual")
    group.add_argument(
        "--ema", type=float, metavar="DECAY", help="keep a moving average of the weights, as the model; 0.999 is usual"
    )
    group.add_argument("--label-smoothing", type=float, help="default: 0.1")
    group.add_argument(
        "--no-whiten", dest="whiten", action="store_false", default=None, help="no whitening filters to begin with"
    )


def _routing(group: Any) -> None:
    group.add_argument("--routing", choices=("sigmoid", "softmax"), help="the paper's is sigmoid, the default")
    group.add_argument("--router-dropout", type=float, help="dropout on routing weights (default: the architecture's)")
    group.add_argument(
        "--balance", type=float, metavar="WEIGHT", help="of a loss for unevenly used experts; try 0.01 (default: 0)"
    )
    group.add_argument(
        "--temperature", type=float, help="with --routing softmax: the first temperature, which falls to 1; 30 is usual"
    )
    group.add_argument("--temperature-epochs", type=float, metavar="EPOCHS", help="in which it falls; 10 is usual")
    group.add_argument(
        "--mixing",
        choices=("auto", "kernels", "outputs"),
        help="mix each image's kernel, or every expert's output; the result is the same (default: what is faster)",
    )


def _augmentation(group: Any) -> None:
    group.add_argument("--shift", type=int, help="random shifts by up to this many pixels (default: 2)")
    group.add_argument("--no-flip", dest="flip", action="store_false", default=None, help="no mirror images")
    group.add_argument(
        "--cutout", type=int, metavar="PIXELS", help="hide a random square with sides of this many pixels (default: 0)"
    )
    group.add_argument("--mixup", type=float, metavar="ALPHA", help="mix images in pairs; 0.2 is usual (default: 0)")
    group.add_argument(
        "--cutmix", type=float, metavar="ALPHA", help="paste a part of one image into another; 1 is usual (default: 0)"
    )
    group.add_argument("--jitter", type=float, help="of brightness, contrast and saturation, 0 to 1 (default: 0)")
    group.add_argument("--hue", type=float, help="random hues, by up to this share of a turn; 0 to 0.5 (default: 0)")
    group.add_argument("--policy", type=int, metavar="N", help="RandAugment: N operations an image (default: 0)")
    group.add_argument("--magnitude", type=float, help="RandAugment: their strength, 0 to 30 (default: 9)")


def _machine(group: Any) -> None:
    group.add_argument(
        "--processes",
        type=at_least_one,
        default=1,
        metavar="N",
        help="share each batch among N processes here; on Linux one alone uses up to four cores (default: 1)",
    )
    group.add_argument(
        "--sync-norm", action="store_true", default=None, help="several processes: batch norm over the whole batch"
    )
    group.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="of a step's arithmetic; weights stay float32"
    )
    group.add_argument(
        "--accumulate", type=int, metavar="PARTS", help="work through a batch in parts, for less memory (default: 1)"
    )
    group.add_argument(
        "--checkpointing", action="store_true", default=None, help="compute blocks twice, for less memory"
    )
    group.add_argument(
        "--save-minutes", type=float, metavar="MINUTES", help="between checkpoints within an epoch (default: 5)"
    )
    group.add_argument("--save-steps", type=int, metavar="STEPS", help="the same in steps (default: 0, off)")
    group.add_argument(
        "--cache-gb", type=float, metavar="GB", help="memory that MLX keeps for reuse (default: a quarter of all)"
    )
    group.add_argument(
        "--background", action="store_true", help="leave the machine to others first: low priority, and --rest 0.1"
    )
    group.add_argument("--rest", type=float, metavar="SHARE", help="of the time, the device is left idle (default: 0)")


def _width(text: str) -> int | float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
