"""`condconv-mlx train`: train a network on a data set."""

import argparse
import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from condconv_mlx.cli.arguments import at_least_one, experts
from condconv_mlx.cli.datasets import NAMES, warn_of_skipped

SMALL_IMAGES = 64  # pixels; up to here the networks for ImageNet get a stem without stride
EXAMPLE = """\
examples:
  condconv-mlx train --data cifar10 --epochs 30
  condconv-mlx train --data folder:~/Pictures/birds --out runs/birds
  condconv-mlx train --data folder:~/Downloads/birds.zip --size 96
  condconv-mlx train --resume runs/birds
  condconv-mlx train --resume runs/birds --epochs 60
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "train",
        help="train a network on a data set",
        description="Train a network. The run is a folder; best.safetensors in it is the model.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="cifar10", help=f"{NAMES} (default: cifar10)")
    parser.add_argument(
        "--size",
        type=at_least_one,
        metavar="PIXELS",
        help="side of the images of folder:PATH (default: theirs, up to 64, if most are square and alike; else 32)",
    )
    parser.add_argument("--model", default="condconv_small", help="architecture (default: condconv_small)")
    parser.add_argument(
        "--experts", type=experts, default=8, help='experts of each layer, or "none" for the static twin (default: 8)'
    )
    parser.add_argument(
        "--width",
        type=_width,
        help="channels of condconv_small's stem, or a factor for mobilenet_v1 (default: its own)",
    )
    parser.add_argument("--router-dropout", type=float, help="dropout on routing weights (default: the architecture's)")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/MODEL-DATA)")
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the run in this folder; with --epochs, for longer"
    )
    parser.add_argument("--epochs", type=float, help="passes over the training images (default: 30)")
    parser.add_argument("--batch-size", type=int, help="images a step (default: 128)")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), help="default: sgd, with Nesterov momentum 0.9")
    parser.add_argument("--learning-rate", type=float, help="its peak (default: 0.1 for sgd, 0.002 for adamw)")
    parser.add_argument("--weight-decay", type=float, help="default: 0.0005 for sgd, 0.05 for adamw")
    parser.add_argument("--warmup", type=float, help="epochs of rising learning rate (default: 1)")
    parser.add_argument("--label-smoothing", type=float, help="default: 0.1")
    parser.add_argument("--shift", type=int, help="random shifts by up to this many pixels (default: 2)")
    parser.add_argument("--cutout", type=int, help="hide a random square with sides of this many pixels (default: 0)")
    parser.add_argument("--no-flip", dest="flip", action="store_false", default=None, help="no mirror images")
    parser.add_argument(
        "--no-whiten", dest="whiten", action="store_false", default=None, help="no whitening filters to begin with"
    )
    parser.add_argument(
        "--holdout",
        type=int,
        help="training images kept aside to choose the best epoch (default: 1000, at most a tenth)",
    )
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument(
        "--processes",
        type=at_least_one,
        default=1,
        metavar="N",
        help="share each batch among N processes on this machine; on a CPU, one a core is fastest (default: 1)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run, fail=parser.error, default=parser.get_default)


def run(args: argparse.Namespace) -> int:
    """Train, measure the best model on the test images, and say where it is."""
    from tqdm import tqdm

    from condconv_mlx.checkpoint import load_model, save_model
    from condconv_mlx.data import load_dataset
    from condconv_mlx.training import Progress, evaluate, train
    from condconv_mlx.training.distributed import RANK, launch, rank_and_size

    if args.processes > 1 and RANK not in os.environ:
        return launch([sys.executable, "-m", "condconv_mlx", *args.argv], args.processes)
    rank, _ = rank_and_size()
    folder, data, model, settings = _resumed(args) if args.resume else _fresh(args)
    dataset = load_dataset(data)
    if rank == 0:
        warn_of_skipped(dataset)
        print(dataset.summary(), file=sys.stderr)
    if args.resume is None:
        model = _create(args, dataset)
        if args.holdout is None:
            settings = replace(settings, holdout=min(settings.holdout, len(dataset.train_images) // 10))
    classes, channels = model.config["num_classes"], model.config["in_channels"]
    if (classes, channels) != (len(dataset.labels), dataset.train_images.shape[3]):
        raise ValueError(
            f"the run's model has {classes} classes and {channels} channels, "
            f"{data} has {len(dataset.labels)} and {dataset.train_images.shape[3]}"
        )

    # A log file gets a line now and then, not ten a second.
    interval = 0.1 if sys.stderr.isatty() else 30
    bar = tqdm(unit="step", file=sys.stderr, dynamic_ncols=True, smoothing=0.05, mininterval=interval, disable=rank > 0)

    def show(progress: Progress) -> None:
        bar.total = progress.steps
        if bar.n == 0:
            bar.initial = progress.step - 1
        bar.set_description(f"epoch {progress.epoch}", refresh=False)
        held_out = "" if progress.held_out_accuracy is None else f", held out {progress.held_out_accuracy:.1%}"
        bar.set_postfix_str(
            f"loss {progress.loss:.3f}, accuracy {progress.accuracy:.1%}{held_out}, "
            f"{progress.images_per_second:.0f} images/s",
            refresh=False,
        )
        bar.update(progress.step - bar.n)

    try:
        summary = train(model, dataset, folder, settings, args.resume is not None, data, show)
    except KeyboardInterrupt:
        bar.close()
        if rank == 0:
            print(f"Stopped and saved. To go on: condconv-mlx train --resume {folder}", file=sys.stderr)
        return 130
    bar.close()
    if rank > 0:
        return 0

    best = load_model(folder / "best.safetensors")
    tested = evaluate(best, dataset.test_images, dataset.test_labels, best.info["input"])
    best.info["training"]["test_accuracy"] = tested.accuracy
    save_model(best, folder / "best.safetensors")
    summary |= {"test_accuracy": tested.accuracy, "model": str(folder / "best.safetensors")}
    if args.json:
        print(json.dumps(summary))
    else:
        print(
            f"Best epoch {summary['best_epoch']}: {summary['held_out_accuracy']:.2%} of the held-out images, "
            f"{tested.accuracy:.2%} of {tested.count} test images. Saved in {summary['model']}"
        )
    return 0


def _width(text: str) -> int | float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def _fresh(args: argparse.Namespace) -> tuple[Path, str, Any, Any]:
    from condconv_mlx.training import TrainingSettings

    names = {field.name for field in fields(TrainingSettings)}
    chosen = {name: value for name, value in vars(args).items() if name in names and value is not None}
    if args.optimizer == "adamw":
        chosen = {"learning_rate": 0.002, "weight_decay": 0.05} | chosen
    try:
        settings = TrainingSettings(**chosen)
    except ValueError as error:
        args.fail(str(error))
    if args.size and not args.data.startswith("folder:"):
        args.fail(f"--size is for folder:PATH: the images of {args.data} have their own")
    name = Path(args.data.removeprefix("folder:")).name.removesuffix(".zip")
    folder = args.out or Path("runs") / f"{args.model}-{name}"
    # The run records the data set as one string, so that resuming it loads images of the same size.
    return folder, f"{args.data}?size={args.size}" if args.size else args.data, None, settings


def _create(args: argparse.Namespace, dataset: Any) -> Any:
    import mlx.core as mx

    from condconv_mlx.models import create_model

    options = {name: getattr(args, name) for name in ("width", "router_dropout") if getattr(args, name) is not None}
    # A stem with stride 2 would leave nothing of such images at the end.
    if args.model != "condconv_small" and max(dataset.train_images.shape[1:3]) <= SMALL_IMAGES:
        options["small_images"] = True
    mx.random.seed(args.seed or 0)
    return create_model(
        args.model,
        num_classes=len(dataset.labels),
        num_experts=args.experts,
        in_channels=dataset.train_images.shape[3],
        **options,
    )


def _resumed(args: argparse.Namespace) -> tuple[Path, str, Any, Any]:
    from condconv_mlx.models import create_model
    from condconv_mlx.training import TrainingSettings
    from condconv_mlx.training.distributed import told_by_first
    from condconv_mlx.training.run_folder import read_json

    own = ["data", "size", "model", "experts", "width", "router_dropout", "out"]
    own += [field.name for field in fields(TrainingSettings) if field.name != "epochs"]
    if given := [name for name in own if getattr(args, name) != args.default(name)]:
        options = " ".join(f"--{'no-' * (name in ('flip', 'whiten'))}{name.replace('_', '-')}" for name in given)
        args.fail(f"--resume goes on as the run began, and only --epochs may change: leave out {options}")
    run = told_by_first(lambda: read_json(args.resume / "settings.json"))
    settings = TrainingSettings(**run["training"])
    if args.epochs is not None:
        settings = replace(settings, epochs=args.epochs)
    return args.resume, run["data"], create_model(**run["config"]), settings
