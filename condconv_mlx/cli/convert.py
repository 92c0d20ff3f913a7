"""`condconv-mlx convert`: timm's weights as a file of ours, a model folded for one picture, or an exported function."""

import argparse
import json
from pathlib import Path
from typing import Any

from condconv_mlx.cli.arguments import at_least_one
from condconv_mlx.cli.download import add_yes, confirm_download

EXAMPLE = """\
examples:
  condconv-mlx convert tf_efficientnet_cc_b0_4e cc_b0.safetensors
  condconv-mlx convert model.safetensors mine.safetensors --set same_padding=false norm_eps=1e-5 --labels names.txt
  condconv-mlx convert condconv_small_cifar10 cat.safetensors --fold cat.jpg
  condconv-mlx convert condconv_small_cifar10 small.mlxfn --batch 1 16

A .mlxfn file is loaded by mx.import_function in Python, C++ or Swift, without this package. --fold takes a picture,
whose routing is kept for all pictures, or a JSON file with the weights of each router by name.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "convert",
        help="turn timm's weights into ours, fold a model, or export it",
        description="Write a model in another form: timm's weights as a file of ours, a CondConv model as the static "
        "one that it is for a fixed routing, or either as a function for mx.import_function.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a name from condconv-mlx models, or a safetensors file of ours or of timm's")
    parser.add_argument("out", type=Path, help="a new file, .safetensors or .mlxfn")
    parser.add_argument("--fold", type=Path, metavar="FILE", help="make it static, for the routing of this picture")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings that timm's file does not tell"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of a .safetensors file (default: float32)"
    )
    parser.add_argument(
        "--batch", type=at_least_one, nargs="+", default=[1], help="batch sizes of a .mlxfn file (default: 1)"
    )
    parser.add_argument("--size", type=at_least_one, help="side of its images in pixels (default: the model's)")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    add_yes(parser)
    parser.set_defaults(run=run, fail=parser.error)


def run(args: argparse.Namespace) -> int:
    """Load, fold if wanted, and write."""
    import mlx.core as mx

    from condconv_mlx.checkpoint import save_model
    from condconv_mlx.convert import export_model, fold
    from condconv_mlx.models import input_shape

    if args.out.suffix not in (".safetensors", ".mlxfn"):
        args.fail(f"the new file must end in .safetensors or .mlxfn, got {args.out.name}")
    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} is there already; --force replaces it")
    confirm_download(args.model, args.yes)
    model = _load(args)
    if args.fold:
        model = fold(model, _routing(model, args.fold))
    if args.out.suffix == ".safetensors":
        save_model(model, args.out, dtype=getattr(mx, args.dtype))
    else:
        export_model(model, args.out, input_shape(model, args.size), args.batch)
    experts = model.config.get("num_experts")
    kind = f"{experts} experts" if experts else "static"
    print(f"{args.out}: {model.config['name']}, {kind}, {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


def _load(args: argparse.Namespace) -> Any:
    from condconv_mlx.checkpoint import is_ours, list_weights
    from condconv_mlx.convert import load_any, load_timm

    if not (args.labels or args.set):
        return load_any(args.model)
    if args.model in list_weights() or (Path(args.model).is_file() and is_ours(args.model)):
        raise ValueError(f"{args.model} is a file of ours and has its labels and settings: leave out --labels, --set")
    labels = args.labels.read_text(encoding="utf-8").splitlines() if args.labels else None
    return load_timm(args.model, labels=labels, **dict(map(_setting, args.set)))


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    try:
        if not sign:
            raise ValueError
        return name, json.loads(value)
    except ValueError as error:
        raise ValueError(f"--set wants NAME=VALUE with a number, true or false, got {text!r}") from error


def _routing(model: Any, source: Path) -> dict[str, Any]:
    """The weights (E,) of every router: from a JSON file, or those of a picture."""
    if source.suffix == ".json":
        try:
            routing = json.loads(source.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{source} is no JSON file: {error}") from error
        if not isinstance(routing, dict):
            raise ValueError(f"{source} must hold an object with the weights of each router by its name")
        return routing

    from condconv_mlx.cli.predict import predict

    if missing := [key for key in ("labels", "input") if key not in model.info]:
        raise ValueError(f"the model lacks {' and '.join(missing)} for pictures: fold it by a JSON file of weights")
    (answer,) = predict(model, [source])
    if "error" in answer:
        raise ValueError(answer["error"])
    return {router["router"]: router["weights"] for router in answer["routing"]}
