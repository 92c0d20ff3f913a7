"""`condconv-mlx train`: train a network on a data set."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from condconv_mlx.cli.datasets import warn_of_skipped
from condconv_mlx.cli.download import confirm_download
from condconv_mlx.cli.training_arguments import OF_THE_MODEL, RATES, add_arguments, flag
from condconv_mlx.durations import roughly

RESTING = 0.1  # share of the time that a run in the background leaves to others
SMALL_IMAGES = 64  # pixels; up to here the networks for ImageNet get a stem without stride
EXAMPLE = """\
examples:
  condconv-mlx train --data cifar10 --epochs 30
  condconv-mlx train --data cifar10 --epochs 30 --estimate
  condconv-mlx train --data folder:~/Pictures/birds --out runs/birds
  condconv-mlx train --data folder:~/Downloads/birds.zip --size 96
  condconv-mlx train --data folder:~/Pictures/birds --from tf_efficientnet_cc_b0_4e --freeze --epochs 5
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
        usage="%(prog)s [options]",
    )
    add_arguments(parser)
    parser.set_defaults(run=run, fail=parser.error, default=parser.get_default)


def run(args: argparse.Namespace) -> int:
    """Train, measure the best model on the test images, and say where it is."""
    from condconv_mlx.checkpoint import load_model, save_model
    from condconv_mlx.training import Stopped, evaluate, train
    from condconv_mlx.training.distributed import RANK, launch, rank_and_size
    from condconv_mlx.training.machine import keep_awake, step_back

    if args.processes > 1 and RANK not in os.environ:
        return launch([sys.executable, "-m", "condconv_mlx", *args.argv], args.processes)
    rank, _ = rank_and_size()
    if args.estimate:
        return _estimate(args)
    plan = _resumed(args) if args.resume else _fresh(args, _load)
    keep_awake()
    if args.background:
        step_back()
    bar, show = _progress_bar(hidden=rank > 0)
    try:
        summary = train(
            plan.model,
            plan.dataset,
            plan.folder,
            plan.settings,
            resume=args.resume is not None,
            data=plan.data,
            on_progress=show,
            pretrained=plan.pretrained,
        )
    except KeyboardInterrupt as stop:
        bar.close()
        if rank == 0:
            what = "Stopped and saved" if isinstance(stop, Stopped) else "Stopped at once, the last checkpoint stays"
            print(f"{what}. To go on: condconv-mlx train --resume {plan.folder}", file=sys.stderr)
        return 128 + (stop.signal if isinstance(stop, Stopped) else signal.SIGINT)
    finally:
        bar.close()
    if rank > 0:
        return 0

    file = plan.folder / "best.safetensors"
    best = load_model(file)
    tested = evaluate(best, plan.dataset.test_images, plan.dataset.test_labels, best.info["input"])
    best.info["training"]["test_accuracy"] = tested.accuracy
    save_model(best, file)
    summary |= {"test_accuracy": tested.accuracy, "model": str(file)}
    if args.json:
        print(json.dumps(summary))
    else:
        print(
            f"Best epoch {summary['best_epoch']}: {summary['held_out_accuracy']:.2%} of the held-out images, "
            f"{tested.accuracy:.2%} of {tested.count} test images. Saved in {summary['model']}"
        )
    return 0


def _progress_bar(hidden: bool) -> tuple[Any, Any]:
    """A bar on standard error, and what to call after every step."""
    from tqdm import tqdm

    from condconv_mlx.training import Progress

    # A log file gets a line now and then, not ten a second.
    interval = 0.1 if sys.stderr.isatty() else 30
    bar = tqdm(unit="step", file=sys.stderr, dynamic_ncols=True, smoothing=0.05, mininterval=interval, disable=hidden)

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

    return bar, show


@dataclass
class _Plan:
    """What is to be trained, on what, how, and where."""

    folder: Path
    data: str
    dataset: Any
    model: Any
    settings: Any
    pretrained: dict[str, Any] | None


def _estimate(args: argparse.Namespace) -> int:
    """Say how long it will take."""
    from condconv_mlx.data import FILES
    from condconv_mlx.training.estimate import estimate, made_up
    from condconv_mlx.training.machine import step_back

    if args.resume or args.processes > 1:
        args.fail("--estimate is for a run that begins, in one process")
    if args.background:
        step_back()
    plan = _fresh(args, lambda data: made_up(data) if data in FILES else _load(data))
    found = estimate(plan.model, plan.dataset, plan.settings, plan.pretrained)
    if args.json:
        print(json.dumps(asdict(found) | {"seconds": found.seconds, "images_per_second": found.images_per_second}))
    else:
        print(
            f"About {roughly(found.seconds)}: {found.steps} steps at {1e3 * found.seconds_per_step:.0f} ms, "
            f"{found.images_per_second:.0f} images a second, measured here"
        )
    return 0


def _fresh(args: argparse.Namespace, load: Callable[[str], Any]) -> _Plan:
    """A run that begins, on what `load` gives for a data set's name."""
    from condconv_mlx.training import TrainingSettings

    names = {field.name for field in fields(TrainingSettings)}
    chosen = {name: value for name, value in vars(args).items() if name in names and value is not None}
    usual = dict(RATES[args.optimizer or "sgd"])
    if args.start:
        usual["learning_rate"] /= 10
    if args.background:
        usual["rest"] = RESTING
    try:
        settings = TrainingSettings(**usual | chosen)
    except ValueError as error:
        args.fail(str(error))
    if args.size and not args.data.startswith("folder:"):
        args.fail(f"--size is for folder:PATH: the images of {args.data} have their own")
    if args.temperature_epochs and args.routing != "softmax":
        args.fail("--temperature is for --routing softmax")
    if args.freeze and not args.start:
        args.fail("--freeze is for --from: a fresh network has nothing to keep")
    name = Path(args.data.removeprefix("folder:")).name.removesuffix(".zip")
    started, pretrained = _trained(args) if args.start else (None, None)
    size = args.size or (pretrained["input"]["size"] if pretrained and args.data.startswith("folder:") else None)
    # The run records the data set as one string, so that resuming it, from anywhere, loads the same images.
    data = _from_anywhere(args.data) + (f"?size={size}" if size else "")
    dataset = load(data)
    if started and pretrained:
        import mlx.core as mx

        from condconv_mlx.training import for_classes

        wanted, given = pretrained["input"]["size"], dataset.train_images.shape[1]
        if given != (args.size or wanted):
            raise ValueError(f"{args.start} takes images of {wanted} pixels, those of {data} have {given}")
        # Not from the numbers that a first training with this seed had: its first classifier, to which the network has
        # grown, would come again.
        mx.random.seed((args.seed or 0) + 2**16)
        model = for_classes(started, dataset.labels)
        _check_fit(model, dataset, data)
    else:
        model = _create(args, dataset)
    if args.holdout is None:
        settings = replace(settings, holdout=min(settings.holdout, len(dataset.train_images) // 10))
    folder = args.out or Path("runs") / f"{_short(args.start) if args.start else args.model}-{name}"
    return _Plan(folder, data, dataset, model, settings, pretrained)


def _from_anywhere(data: str) -> str:
    """The same data set, by a name that does not depend on where the command runs."""
    kind, _, path = data.partition(":")
    return f"folder:{os.path.abspath(os.path.expanduser(path))}" if kind == "folder" and path else data


def _trained(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The network to begin with, and what the run records of it."""
    from condconv_mlx.convert import load_any

    if given := [name for name in OF_THE_MODEL if getattr(args, name) != args.default(name)]:
        args.fail(f"--from brings its own network: leave out {' '.join(map(flag, given))}")
    confirm_download(args.start, args.yes)
    model = load_any(args.start)
    if "input" not in model.info:
        raise ValueError(f"{args.start} does not say which images it was trained on")
    wanted = {key: model.info["input"][key] for key in ("size", "channels", "mean", "std")}
    return model, {"from": args.start, "input": wanted}


def _create(args: argparse.Namespace, dataset: Any) -> Any:
    import mlx.core as mx

    from condconv_mlx.models import create_model

    options = {name: getattr(args, name) for name in ("width", "router_dropout", "routing")}
    options = {name: value for name, value in options.items() if value is not None}
    # A stem with stride 2 would leave nothing of such images at the end.
    if args.model != "condconv_small" and max(dataset.train_images.shape[1:3]) <= SMALL_IMAGES:
        options["small_images"] = True
    mx.random.seed(args.seed or 0)
    return create_model(
        args.model,
        num_classes=len(dataset.labels),
        num_experts=args.experts,
        norm=args.norm,
        in_channels=dataset.train_images.shape[3],
        **options,
    )


def _resumed(args: argparse.Namespace) -> _Plan:
    """A run that goes on."""
    from condconv_mlx.models import create_model
    from condconv_mlx.training import TrainingSettings
    from condconv_mlx.training.distributed import told_by_first
    from condconv_mlx.training.run_folder import read_json
    from condconv_mlx.training.settings import OF_THE_MACHINE

    free = {"epochs", *OF_THE_MACHINE}
    own = ["data", "size", *OF_THE_MODEL, "start", "out"]
    own += [field.name for field in fields(TrainingSettings) if field.name not in free]
    if given := [name for name in own if getattr(args, name) != args.default(name)]:
        options = " ".join(map(flag, given))
        args.fail(f"--resume goes on as the run began, but for --epochs and the machine: leave out {options}")
    run = told_by_first(lambda: read_json(args.resume / "settings.json"))
    changed = {name: getattr(args, name) for name in free if getattr(args, name) is not None}
    if args.background:
        changed = {"rest": RESTING} | changed
    settings = replace(TrainingSettings(**run["training"]), **changed)
    dataset, model = _load(run["data"]), create_model(**run["config"])
    _check_fit(model, dataset, run["data"])
    return _Plan(args.resume, run["data"], dataset, model, settings, run.get("pretrained"))


def _load(data: str) -> Any:
    from condconv_mlx.data import load_dataset
    from condconv_mlx.training.distributed import rank_and_size

    dataset = load_dataset(data)
    if rank_and_size()[0] == 0:
        warn_of_skipped(dataset)
        print(dataset.summary(), file=sys.stderr)
    return dataset


def _check_fit(model: Any, dataset: Any, data: str) -> None:
    classes, channels = model.config["num_classes"], model.config["in_channels"]
    if (classes, channels) != (len(dataset.labels), dataset.train_images.shape[3]):
        raise ValueError(
            f"the run's model has {classes} classes and {channels} channels, "
            f"{data} has {len(dataset.labels)} and {dataset.train_images.shape[3]}"
        )


def _short(name_or_path: str) -> str:
    """What to call a run after the model that it begins with."""
    path = Path(name_or_path)
    return path.parent.name if path.stem == "best" and path.parent.name else path.stem
