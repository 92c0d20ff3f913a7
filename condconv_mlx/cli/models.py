"""`condconv-mlx models`: the weights that come along, and the networks that can be trained."""

import argparse
import json
from typing import Any

EXAMPLE = """\
examples:
  condconv-mlx models
  condconv-mlx models --json
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "models",
        help="list the weights and the networks",
        description="List the weights that come with condconv-mlx, and the networks that it can train.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print both lists."""
    from condconv_mlx.checkpoint import list_weights
    from condconv_mlx.models import list_models

    weights = [describe_weights(name) for name in list_weights()]
    networks = [describe_network(name) for name in list_models()]
    if args.json:
        print(json.dumps({"weights": weights, "networks": networks}, indent=2))
        return 0
    print("Weights that come along (condconv-mlx predict --model NAME)")
    titles = ("name", "network", "experts", "data set", "parameters", "file", "test accuracy")
    print(_table([titles, *map(_row, weights)]) if weights else "  none")
    print("\nNetworks (condconv-mlx train --model NAME)")
    rows = [(net["name"], f"{net['parameters']:,}", f"{net['static_parameters']:,}") for net in networks]
    print(_table([("name", "parameters with 8 experts", "static"), *rows]))
    return 0


def describe_weights(name: str) -> dict[str, Any]:
    """What a shipped file says of itself, in plain JSON; "test_accuracy" is None where it does not say."""
    from condconv_mlx.checkpoint import load_model, weights_folder

    model = load_model(name)
    path = weights_folder() / f"{name}.safetensors"
    return {
        "name": name,
        "path": str(path),
        "network": model.config["name"],
        "experts": model.config.get("num_experts"),
        "dataset": model.info.get("dataset"),
        "labels": model.info.get("labels"),
        "parameters": count_parameters(model),
        "bytes": path.stat().st_size,
        "test_accuracy": model.info.get("training", {}).get("test_accuracy"),
    }


def describe_network(name: str) -> dict[str, Any]:
    """The parameters of an architecture with its default settings, with 8 experts and without."""
    from condconv_mlx.models import create_model

    return {
        "name": name,
        "parameters": count_parameters(create_model(name)),
        "static_parameters": count_parameters(create_model(name, num_experts=None)),
    }


def count_parameters(model: Any) -> int:
    """Numbers that training changes; the running statistics of batch normalisation are none."""
    from mlx.utils import tree_flatten

    parameters: dict[str, Any] = dict(tree_flatten(model.trainable_parameters()))
    return sum(value.size for value in parameters.values())


def _row(weights: dict[str, Any]) -> tuple[str, ...]:
    accuracy = weights["test_accuracy"]
    return (
        weights["name"],
        weights["network"],
        str(weights["experts"] or "static"),
        weights["dataset"] or "",
        f"{weights['parameters']:,}",
        f"{weights['bytes'] / 1e6:.1f} MB",
        "" if accuracy is None else f"{accuracy:.2%}",
    )


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(f"  {line}" for line in lines)
