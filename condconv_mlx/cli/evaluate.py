"""`condconv-mlx evaluate`: the accuracy of a model on test images."""

import argparse
import json
import sys
from typing import Any

from condconv_mlx.cli.datasets import NAMES, difference, same_pictures_split_otherwise, trained_on, warn_of_skipped

EXAMPLE = """\
examples:
  condconv-mlx evaluate condconv_small_fashion_mnist
  condconv-mlx evaluate runs/birds/best.safetensors
  condconv-mlx evaluate birds.safetensors --data 'folder:~/Pictures/birds?seed=1' --json
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure the accuracy of a model on test images",
        description="Measure the accuracy of a model on the test images of a data set.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="name of shipped weights, or a safetensors file")
    parser.add_argument("--data", help=f"{NAMES} (default: what the model was trained on, as its run or it says)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the accuracy, the loss and the accuracy of each class."""
    from tqdm import tqdm

    from condconv_mlx.checkpoint import load_model
    from condconv_mlx.data import DataError, load_dataset
    from condconv_mlx.training import evaluate

    model = load_model(args.model)
    trained = trained_on(model, args.model)
    data = args.data or trained or named(model, args.model)
    if args.data and trained and same_pictures_split_otherwise(args.data, trained):
        print(
            f"condconv-mlx: {args.model} was trained on {trained}, which keeps other pictures for testing than "
            f"{args.data}: it has been trained on some of those that follow",
            file=sys.stderr,
        )
    try:
        # Pictures of a folder come in the size that the model takes; the other sets have their own.
        dataset = load_dataset(data, size=model.info["input"]["size"] if data.startswith("folder:") else None)
    except DataError as error:
        if args.data:
            raise
        raise ValueError(
            f"{args.model} was trained on {data}: {error}. Add --data to evaluate on other images"
        ) from error
    warn_of_skipped(dataset)
    labels = model.info.get("labels") or dataset.labels
    if list(dataset.labels) != list(labels):
        known, there = difference(labels, dataset.labels)
        raise ValueError(
            f"{args.model} was trained on {len(labels)} classes and {data} has {len(dataset.labels)}, not the same: it "
            f"knows {known}; {data} has {there}"
        )
    with tqdm(total=len(dataset.test_images), unit="image", leave=False, disable=None) as bar:
        result = evaluate(model, dataset.test_images, dataset.test_labels, model.info["input"], on_batch=bar.update)
    by_class = result.confusion.diagonal() / result.confusion.sum(axis=1).clip(1)
    if args.json:
        print(
            json.dumps(
                {
                    "model": str(args.model),
                    "data": dataset.source,
                    "spec": data,
                    "images": result.count,
                    "correct": result.correct,
                    "accuracy": result.accuracy,
                    "loss": result.loss,
                    "by_class": dict(zip(labels, by_class.tolist(), strict=True)),
                    "confusion": result.confusion.tolist(),
                }
            )
        )
        return 0
    print(f"{result.accuracy:.2%} of {result.count} test images right ({result.correct}), loss {result.loss:.4f}")
    print(f"data: {data} ({dataset.source})")
    width = max(map(len, labels))
    for label, share in zip(labels, by_class, strict=True):
        print(f"  {label:<{width}}  {share:6.1%}")
    return 0


def named(model: Any, name: str) -> str:
    """The data set that a model names as the one that it was trained on. ValueError if nothing can be loaded by it."""
    from condconv_mlx.data import list_datasets

    dataset = model.info.get("dataset")
    if not dataset:
        raise ValueError(f"{name} does not say what it was trained on: add --data")
    if dataset not in list_datasets():
        raise ValueError(
            f"{name} was trained on {dataset!r}, and does not say where that is: add --data folder:PATH, with the "
            "options it was trained with"
        )
    return dataset
