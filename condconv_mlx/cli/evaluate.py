"""`condconv-mlx evaluate`: the accuracy of a model on test images."""

import argparse
import json
from typing import Any

from condconv_mlx.cli.datasets import NAMES, difference, warn_of_skipped

EXAMPLE = """\
examples:
  condconv-mlx evaluate condconv_small_fashion_mnist
  condconv-mlx evaluate runs/birds/best.safetensors --data folder:~/Pictures/birds --json
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
    parser.add_argument("--data", help=f"{NAMES} (default: what the model was trained on)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the accuracy, the loss and the accuracy of each class."""
    from tqdm import tqdm

    from condconv_mlx.checkpoint import load_model
    from condconv_mlx.data import load_dataset
    from condconv_mlx.training import evaluate

    model = load_model(args.model)
    data = args.data or model.info.get("dataset")
    if not data:
        raise ValueError(f"{args.model} does not say what it was trained on: add --data")
    # Pictures of a folder come in the size that the model takes; the other sets have their own.
    dataset = load_dataset(data, size=model.info["input"]["size"] if data.startswith("folder:") else None)
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
    print(f"data: {dataset.source}")
    width = max(map(len, labels))
    for label, share in zip(labels, by_class, strict=True):
        print(f"  {label:<{width}}  {share:6.1%}")
    return 0
