"""`condconv-mlx study`: the paper's questions at small scale, over seeds."""

import argparse
import json
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from condconv_mlx.cli.arguments import at_least_one
from condconv_mlx.cli.datasets import NAMES, warn_of_skipped
from condconv_mlx.study import QUESTIONS

EXAMPLE = """\
examples:
  condconv-mlx study
  condconv-mlx study --only static --only experts --processes 4
  condconv-mlx study --data cifar10 --width 16 --seeds 5
  condconv-mlx study --draw
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "study",
        help="ask the paper's questions with many short training runs",
        description="Ask the paper's questions with many short training runs that share one recipe, pair them by seed, "
        "and write a page with charts and intervals. What is finished is kept: stopped, the same command goes on.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", choices=QUESTIONS, help="this question alone; can be given repeatedly"
    )
    parser.add_argument(
        "--seeds", type=at_least_one, metavar="N", help="runs of each network (default: 5 against static, 3 elsewhere)"
    )
    parser.add_argument("--data", default="fashion_mnist", help=f"{NAMES} (default: fashion_mnist)")
    parser.add_argument("--images", type=at_least_one, metavar="N", help="training images (default: 20000)")
    parser.add_argument("--width", type=at_least_one, metavar="N", help="channels of the stem (default: 8)")
    parser.add_argument("--epochs", type=at_least_one, metavar="N", help="passes over the images (default: 6)")
    parser.add_argument("--batch-size", type=at_least_one, metavar="N", help="images a step (default: 128)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where results are kept (default: runs/study-DATA)")
    parser.add_argument(
        "--processes", type=at_least_one, default=1, metavar="N", help="runs at a time, a core each (default: 1)"
    )
    parser.add_argument("--draw", action="store_true", help="train nothing; draw what is finished")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do the runs that are missing, and write the page and the numbers."""
    from condconv_mlx.data import load_dataset
    from condconv_mlx.files import atomic_file
    from condconv_mlx.study.page import page, text
    from condconv_mlx.study.plan import Recipe, questions, runs
    from condconv_mlx.study.results import answer
    from condconv_mlx.study.runner import finished
    from condconv_mlx.training.run_folder import write_json

    chosen = {
        name: getattr(args, name)
        for name in ("images", "width", "epochs", "batch_size")
        if getattr(args, name) is not None
    }
    recipe = Recipe(data=args.data, **chosen)
    name = Path(args.data.removeprefix("folder:").partition("?")[0]).name.removesuffix(".zip")
    folder = args.out or Path("runs") / f"study-{name}"
    dataset = load_dataset(args.data)
    warn_of_skipped(dataset)
    recipe = replace(recipe, images=min(recipe.images, len(dataset.train_images)))
    if recipe.images < recipe.batch_size:
        raise ValueError(f"{recipe.images} training images are too few for batches of {recipe.batch_size}")
    shape = dataset.train_images.shape[1:]
    asked = questions(recipe, shape, len(dataset.labels), args.only or QUESTIONS)
    # Seed by seed, so that what is finished early can be paired.
    planned = {
        each.key: each
        for question in asked
        for seed in zip(*runs(recipe, question, shape, args.seeds).values(), strict=True)
        for each in seed
    }
    missing = [each for each in planned.values() if not finished(folder, each)]
    status = 0
    if missing and not args.draw:
        print(f"{dataset.summary()}\n{len(planned) - len(missing)} of {len(planned)} runs are done", file=sys.stderr)
        status = _work(missing, folder, args.processes)
    answers = [answer(recipe, question, folder, shape, args.seeds) for question in asked]
    if not any(each.arms for each in answers):
        if status != 130:
            raise ValueError(f"no run of this study is finished in {folder}")
        return status
    content = {"recipe": asdict(recipe), "source": dataset.source, "questions": [each.as_json() for each in answers]}
    write_json(folder / "results.json", content)
    with atomic_file(folder / "study.html") as file:
        file.write(page(recipe, dataset.source, answers).encode())
    print(json.dumps(content) if args.json else f"{text(answers)}\n\n{folder / 'study.html'}")
    return status


def _work(missing: list[Any], folder: Path, processes: int) -> int:
    """Do these runs with a progress bar, and say what failed. The exit status."""
    from tqdm import tqdm

    from condconv_mlx.study.runner import carry_out_all

    # By images, since some runs take three times as many as others.
    bar = tqdm(
        total=round(sum(each.cost for each in missing)),
        unit=" images",
        unit_scale=True,
        file=sys.stderr,
        dynamic_ncols=True,
        smoothing=0,
        mininterval=0.5 if sys.stderr.isatty() else 60,
    )
    shares: dict[str, float] = {}
    lock = threading.Lock()

    def show(each: Any, share: float) -> None:
        with lock:
            before = shares.get(each.key, 0.0)
            shares[each.key] = share
            bar.set_postfix_str(f"{sum(done == 1 for done in shares.values())} of {len(missing)} runs", refresh=False)
            bar.update(round(each.cost * share) - round(each.cost * before))

    # In the background of a script Ctrl-C does not reach it, so what ends it there is taken for the same.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failed = carry_out_all(missing, folder, processes, show)
    except KeyboardInterrupt:
        print(f"\nStopped. What is finished is in {folder}; the same command goes on.", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        bar.close()
    for key, why in failed.items():
        print(f"condconv-mlx: the run {key} failed: {why}", file=sys.stderr)
    return int(bool(failed))
