"""`condconv-mlx models`: the weights that come along, and the networks with what they cost."""

import argparse
import json
from typing import Any

from condconv_mlx.cli.arguments import at_least_one, experts
from condconv_mlx.tables import aligned

EXAMPLE = """\
examples:
  condconv-mlx models
  condconv-mlx models mobilenet_v2 --experts 4
  condconv-mlx models efficientnet_b0 --size 32 --json
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "models",
        help="list the weights and the networks",
        description="List the weights that come with condconv-mlx, and the networks that it can build, with their "
        "multiply-adds and parameters. Of one network, list the layers.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a network or weights, to see layer by layer")
    parser.add_argument("--experts", type=experts, default=8, metavar="E", help='of a network, or "none" (default: 8)')
    parser.add_argument(
        "--size", type=at_least_one, metavar="PIXELS", help="side of the images (default: the network's own)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print both lists, or the layers of one network."""
    from condconv_mlx.checkpoint import list_weights
    from condconv_mlx.models import list_models

    if args.name is not None:
        described = describe_layers(args.name, args.experts, args.size)
        print(json.dumps(described, indent=2) if args.json else "\n".join(_layer_lines(described)))
        return 0
    weights = [describe_weights(name, args.size) for name in list_weights()]
    networks = [describe_network(name, args.experts, args.size) for name in list_models()]
    hub = describe_hub()
    if args.json:
        print(json.dumps({"weights": weights, "hub": hub, "networks": networks}, indent=2))
        return 0
    print("Weights that come along (condconv-mlx predict --model NAME)")
    titles = ("name", "network", "experts", "data set", "multiply-adds", "parameters", "file", "test accuracy")
    print(*(aligned([titles, *map(_row, weights)], left=(0, 1, 3)) if weights else ["  none"]), sep="\n")
    print("\nImageNet weights of timm, fetched on first use (condconv-mlx predict --model NAME)")
    hub_titles = ("name", "network", "experts", "multiply-adds", "parameters", "file", "on this machine")
    print(*aligned([hub_titles, *map(_hub_row, hub)], left=(0, 1, 6)), sep="\n")
    print("\nNetworks (condconv-mlx train --model NAME)")
    print(*aligned([_network_titles(args.experts), *map(_network_row, networks)]), sep="\n")
    return 0


def describe_weights(name: str, size: int | None = None) -> dict[str, Any]:
    """What a shipped file says of itself, in plain JSON; "test_accuracy" is None where it does not say."""
    from condconv_mlx.checkpoint import load_model, weights_folder

    model = load_model(name)
    path = weights_folder() / f"{name}.safetensors"
    counted, shape = _count(model, size)
    return {
        "name": name,
        "path": str(path),
        "network": model.config["name"],
        "experts": model.config.get("num_experts"),
        "dataset": model.info.get("dataset"),
        "labels": model.info.get("labels"),
        "input_shape": shape,
        "multiply_adds": counted.madds,
        "parameters": counted.params,
        "bytes": path.stat().st_size,
        "test_accuracy": model.info.get("training", {}).get("test_accuracy"),
    }


def describe_hub() -> list[dict[str, Any]]:
    """The published weights that `load_timm` fetches, and whether they are here. Uses no network."""
    from condconv_mlx.convert.hub import HUB_MODELS, cached

    described = []
    for name, known in HUB_MODELS.items():
        model = _create(known.network, known.experts)
        counted, shape = _count(model, known.size)
        path = cached(name)
        described.append(
            {
                "name": name,
                "path": str(path) if path else None,
                "network": known.network,
                "experts": known.experts,
                "input_shape": shape,
                "multiply_adds": counted.madds,
                "parameters": counted.params,
                "bytes": known.megabytes * 10**6,
                "address": known.address,
            }
        )
    return described


def describe_network(name: str, experts: int | None, size: int | None = None) -> dict[str, Any]:
    """What an architecture costs with its default settings, with experts and without."""
    counted, shape = _count(_create(name, experts), size)
    static, _ = _count(_create(name, None), size)
    return {
        "name": name,
        "experts": experts,
        "input_shape": shape,
        "multiply_adds": counted.madds,
        "parameters": counted.params,
        "static_multiply_adds": static.madds,
        "static_parameters": static.params,
    }


def describe_layers(name: str, experts: int | None, size: int | None) -> dict[str, Any]:
    """What each layer of a network costs, or of weights (a name or a file), whose experts are their own."""
    from dataclasses import asdict

    from condconv_mlx.checkpoint import list_weights
    from condconv_mlx.convert import HUB_MODELS, load_any

    model: Any
    if known := HUB_MODELS.get(name):
        # Nothing has to be fetched to count it.
        model = _create(known.network, known.experts)
        size = size or known.size
    else:
        saved = name in list_weights() or name.endswith(".safetensors")
        model = load_any(name) if saved else _create(name, experts)
    counted, shape = _count(model, size)
    return {
        "name": name,
        "network": model.config["name"],
        "experts": model.config.get("num_experts"),
        "input_shape": shape,
        "multiply_adds": counted.madds,
        "parameters": counted.params,
        "layers": [asdict(layer) for layer in counted.layers],
    }


def _create(name: str, experts: int | None) -> Any:
    from condconv_mlx.models import create_model

    # condconv_small is counted as it is shipped, the others as they are published.
    classes: dict[str, Any] = {} if name == "condconv_small" else {"num_classes": 1000}
    return create_model(name, **classes, num_experts=experts)


def _count(model: Any, size: int | None) -> tuple[Any, list[int]]:
    """The complexity of a model, and the shape of the image that it was counted for."""
    from condconv_mlx.complexity import count
    from condconv_mlx.models import input_shape

    shape = input_shape(model, size)
    return count(model, shape), list(shape)


def _row(weights: dict[str, Any]) -> tuple[str, ...]:
    accuracy = weights["test_accuracy"]
    return (
        weights["name"],
        weights["network"],
        str(weights["experts"] or "static"),
        weights["dataset"] or "",
        _millions(weights["multiply_adds"]),
        f"{weights['parameters']:,}",
        f"{weights['bytes'] / 1e6:.1f} MB",
        "" if accuracy is None else f"{accuracy:.2%}",
    )


def _hub_row(known: dict[str, Any]) -> tuple[str, ...]:
    return (
        known["name"],
        known["network"],
        str(known["experts"] or "static"),
        _millions(known["multiply_adds"]),
        f"{known['parameters']:,}",
        f"{known['bytes'] / 1e6:.0f} MB",
        "yes" if known["path"] else "no",
    )


def _network_titles(experts: int | None) -> tuple[str, ...]:
    static = ("name", "image", "multiply-adds", "parameters")
    return static if experts is None else (*static, f"with {experts} experts", "parameters")


def _network_row(network: dict[str, Any]) -> tuple[str, ...]:
    height, width, _ = network["input_shape"]
    static = (
        network["name"],
        f"{height}×{width}",
        _millions(network["static_multiply_adds"]),
        f"{network['static_parameters']:,}",
    )
    if network["experts"] is None:
        return static
    return (*static, _millions(network["multiply_adds"]), f"{network['parameters']:,}")


def _layer_lines(described: dict[str, Any]) -> list[str]:
    height, width, channels = described["input_shape"]
    experts = "static" if described["experts"] is None else f"{described['experts']} experts"
    rows = [
        (
            layer["name"],
            layer["kind"],
            "×".join(map(str, layer["output_shape"])),
            f"{layer['madds']:,}",
            f"{layer['params']:,}",
        )
        for layer in described["layers"]
    ]
    total = ("all", "", "", f"{described['multiply_adds']:,}", f"{described['parameters']:,}")
    titles = ("layer", "kind", "output", "multiply-adds", "parameters")
    return [
        f"{described['name']}, {experts}, for one image of {height}×{width}×{channels}",
        *aligned([titles, *rows, total], left=(0, 1)),
    ]


def _millions(number: int) -> str:
    return f"{number / 1e6:,.1f} M"
