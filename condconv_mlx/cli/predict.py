"""`condconv-mlx predict`: the classes of images, and the experts mixed for them."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from condconv_mlx.cli.arguments import at_least_one
from condconv_mlx.cli.download import add_yes, confirm_download

DEFAULT_MODEL = "condconv_small_cifar10"
BATCH_PIXELS = 2**18  # 64 images of 64 × 64, 5 of 224 × 224
BAR = 24
EXAMPLE = """\
examples:
  condconv-mlx predict cat.jpg
  condconv-mlx predict *.png --model condconv_small_fashion_mnist --top 3
  condconv-mlx predict cat.jpg --model runs/birds/best.safetensors --json
  condconv-mlx predict cat.jpg --model tf_efficientnet_cc_b0_4e
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "predict",
        help="name what is in images, and show the routing",
        description="Print the most probable classes of each image, and the routing weights of each layer.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a picture file")
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help=f"a name from condconv-mlx models, or a safetensors file (default: {DEFAULT_MODEL})",
    )
    parser.add_argument("--top", type=at_least_one, default=5, metavar="K", help="classes to print (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON: every class of every image")
    add_yes(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Answer for every image that can be read, and name the others on standard error."""
    from condconv_mlx.convert import load_any

    confirm_download(args.model, args.yes)
    model = load_any(args.model)
    if missing := [key for key in ("labels", "input") if key not in model.info]:
        raise ValueError(f"{args.model} cannot be used on pictures: its info lacks {' and '.join(missing)}")
    answers: list[dict[str, Any]] = []
    batch = max(1, BATCH_PIXELS // model.info["input"]["size"] ** 2)
    for start in range(0, len(args.images), batch):
        answers += predict(model, args.images[start : start + batch])
    failed = [answer for answer in answers if "error" in answer]
    for answer in failed:
        print(f"condconv-mlx: {answer['error']}", file=sys.stderr)
    if args.json:
        print(json.dumps({"model": str(args.model), "images": answers}, indent=2))
    else:
        texts = [describe(answer, args.top) for answer in answers if "error" not in answer]
        if texts:
            print("\n\n".join(texts))
    return 1 if failed else 0


def predict(model: Any, paths: list[Path]) -> list[dict[str, Any]]:
    """What `model` (from `load_any`) makes of picture files, in their order.

    Returns:
        For each file a dictionary of plain JSON: "file", and either "error" or "classes" (all of them, the most
        probable first) and "routing" (router by router in order of execution, with its weights, one an expert).
    """
    import mlx.core as mx
    import numpy as np

    from condconv_mlx.data import ImageError, fit_image, normalise, open_image
    from condconv_mlx.explain import trace

    wanted, labels = model.info["input"], model.info["labels"]
    how = {key: wanted[key] for key in ("crop", "interpolation") if key in wanted}
    answers: list[dict[str, Any]] = []
    pixels = []
    for path in paths:
        try:
            image = open_image(path, name=str(path))
            pixels.append(fit_image(image, wanted["size"], wanted["channels"], **how))
            answers.append({"file": str(path)})
        except ImageError as error:
            answers.append({"file": str(path), "error": str(error)})
    if not pixels:
        return answers
    traced = trace(model, mx.array(normalise(np.stack(pixels), wanted["mean"], wanted["std"])))
    good = [answer for answer in answers if "error" not in answer]
    for n, (answer, probabilities) in enumerate(zip(good, traced.probabilities, strict=True)):
        order = np.argsort(-probabilities)
        answer["classes"] = [{"label": labels[i], "probability": float(probabilities[i])} for i in order]
        answer["routing"] = [
            {"router": router.name, "layers": list(router.layers), "weights": router.weights[n].tolist()}
            for router in traced.routers
        ]
    return answers


def describe(answer: dict[str, Any], top: int) -> str:
    """A table with bars for one answer of `predict`."""
    classes = answer["classes"][:top]
    width = max(len(entry["label"]) for entry in classes)
    lines = [f"{answer['file']}: {classes[0]['label']}"]
    for entry in classes:
        bar = "█" * round(BAR * entry["probability"])
        lines.append(f"  {entry['label']:<{width}}  {entry['probability']:6.1%}  {bar}".rstrip())
    if answer["routing"]:
        title = "routing weights"
        width = max(len(title), *(len(router["router"]) for router in answer["routing"]))
        experts = max(len(router["weights"]) for router in answer["routing"])
        numbers = "".join(f"{number:>6}" for number in range(1, experts + 1))
        lines.append(f"  {title:<{width}}{numbers}")
        for router in answer["routing"]:
            weights = "".join(f"{weight:6.2f}" for weight in router["weights"])
            lines.append(f"  {router['router']:<{width}}{weights}  → {', '.join(router['layers'])}")
    return "\n".join(lines)
