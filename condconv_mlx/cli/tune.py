"""`condconv-mlx tune`: measure how to compute the layers of a model on this machine, and keep the answer."""

import argparse
import json
import sys
from typing import Any

from condconv_mlx.cli.arguments import at_least_one
from condconv_mlx.cli.download import add_yes, confirm_download
from condconv_mlx.tables import aligned

EXAMPLE = """\
examples:
  condconv-mlx tune --model condconv_small_cifar10 --batch 64
  condconv-mlx tune --model condconv_small --size 64 --batch 1 128 --dtype float16
  condconv-mlx tune --clear

What is measured serves from then on, on this device and with this version of MLX, wherever a layer has strategy="auto":
in training, in predictions and in programs of your own.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "tune",
        help="measure which way of computing is fastest here",
        description="Measure every way to compute each CondConv layer of a model, in inference and in training, check "
        "it against a plain loop, and keep the fastest that is right.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", help="shipped weights or an architecture, by its name in condconv-mlx models, or a safetensors file"
    )
    parser.add_argument(
        "--batch", type=at_least_one, nargs="+", metavar="N", help="images at a time; several are measured each"
    )
    parser.add_argument(
        "--size", type=at_least_one, help="height and width of an image (default: what the model is made for)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="default: float32"
    )
    parser.add_argument("--clear", action="store_true", help="first forget what was measured on this device")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_yes(parser)
    parser.set_defaults(run=run, fail=parser.error)


def run(args: argparse.Namespace) -> int:
    """Measure, keep and print. What was measured before Ctrl-C is kept too."""
    if bool(args.model) != bool(args.batch) or not (args.model or args.clear):
        args.fail("--model and --batch belong together, and one of them alone is not enough")

    from condconv_mlx.functional import tuned

    if args.clear:
        forgotten = tuned.clear()
        if not args.model:
            print(json.dumps({"forgotten": forgotten}) if args.json else f"Forgot {_cases(forgotten)} of this device.")
            return 0
    layers = _layers(args)
    results, status = _measure(layers)
    if args.json:
        print(json.dumps(_report(results, layers), indent=2))
    elif results:
        print(describe(results, layers))
    return status


def _layers(args: argparse.Namespace) -> dict[Any, int]:
    """The cases of the model in the batches asked for, and how many layers have each."""
    import mlx.core as mx

    from condconv_mlx.convert import load_any
    from condconv_mlx.models import create_model, input_shape, list_models
    from condconv_mlx.tuning import find_cases

    confirm_download(args.model, args.yes)
    model = create_model(args.model) if args.model in list_models() else load_any(args.model)
    dtype = getattr(mx, args.dtype)
    model.set_dtype(dtype)
    shape = input_shape(model, args.size)
    layers: dict[Any, int] = {}
    for batch in args.batch:
        layers |= find_cases(model, mx.zeros((batch, *shape), dtype=dtype))
    if not layers:
        raise ValueError(f"{args.model} has no CondConv layer: there is nothing to tune")
    return layers


def _measure(layers: dict[Any, int]) -> tuple[list[Any], int]:
    """The results, each kept in the file as soon as it is there, and the exit status."""
    from tqdm import tqdm

    from condconv_mlx.functional import tuned
    from condconv_mlx.tuning import tune

    results: list[Any] = []
    problem: OSError | None = None
    stopped = False
    with tqdm(total=2 * len(layers), unit="case", file=sys.stderr, leave=False, disable=None) as bar:
        try:
            for result in tune(layers):
                results.append(result)
                bar.update()
                if result.measurement and not problem:
                    try:
                        tuned.keep({result.case: result.measurement})
                    except OSError as error:
                        problem = error
        except KeyboardInterrupt:
            stopped = True
    if stopped:
        print(f"Stopped after {len(results)} of {_cases(2 * len(layers))}.", file=sys.stderr)
    if problem:
        print(f"condconv-mlx: nothing was kept: {tuned.path()}: {problem.strerror or problem}", file=sys.stderr)
    return results, 130 if stopped else int(problem is not None)


def _report(results: list[Any], layers: dict[Any, int]) -> dict[str, Any]:
    """Everything as plain JSON, times in milliseconds."""
    from condconv_mlx.functional import tuned

    return {
        **tuned.place()._asdict(),
        "file": str(tuned.path()),
        "cases": [
            {
                **result.case._asdict(),
                "geometry": result.case.geometry._asdict(),
                "layers": _count(result, layers),
                "default": result.default,
                "chosen": result.chosen if result.measurement else None,
                "milliseconds": result.milliseconds,
                "left_out": result.left_out,
            }
            for result in results
        ],
        "totals": _totals(results, layers),
    }


def describe(results: list[Any], layers: dict[Any, int]) -> str:
    """A table, a row a case, and what is gained in all."""
    from condconv_mlx.functional import tuned

    strategies = list(dict.fromkeys(name for result in results for name in (*result.milliseconds, *result.left_out)))
    rows = [[f"milliseconds, {results[0].case.dtype}", "layers", "mode", *strategies, "chosen"]]
    for result in results:
        times = [_time(result, name) for name in strategies]
        rows.append([_shape(result.case), str(_count(result, layers)), _mode(result.case), *times, _choice(result)])
    lines = aligned(rows, left=(0, -1), indent="")
    for result in results:
        wrong = {name: reason for name, reason in result.left_out.items() if reason.startswith("wrong")}
        lines += [f"{name} is {reason}: {_shape(result.case)}, {_mode(result.case)}" for name, reason in wrong.items()]
    lines.append("")
    for total in _totals(results, layers):
        gain = f"{total['default']:.2f} → {total['chosen']:.2f} ms" if total["default"] else "nothing measured"
        lines.append(f"All CondConv layers, batch {total['batch']}, {total['mode']}: {gain}")
    device, mlx = tuned.place()
    lines.append(f"For {device} with MLX {mlx}, in {tuned.path()}")
    return "\n".join(lines)


def _totals(results: list[Any], layers: dict[Any, int]) -> list[dict[str, Any]]:
    """Milliseconds of all layers together with the default strategies and with the chosen, by batch and mode."""
    totals: dict[tuple[int, str], dict[str, Any]] = {}
    for result in results:
        key = (result.case.x[0], _mode(result.case))
        total = totals.setdefault(key, {"batch": key[0], "mode": key[1], "default": 0.0, "chosen": 0.0})
        chosen = result.milliseconds.get(result.chosen, 0.0)
        # Where the default is not right there is nothing to compare with.
        total["default"] += _count(result, layers) * result.milliseconds.get(result.default, chosen)
        total["chosen"] += _count(result, layers) * chosen
    return list(totals.values())


def _count(result: Any, layers: dict[Any, int]) -> int:
    """How many layers of the model have this case."""
    return layers[result.case._replace(training=False)]


def _shape(case: Any) -> str:
    n, height, width, channels = case.x
    out, kh, kw, _ = case.kernel
    stride, _, dilation, groups = case.geometry
    text = f"{n}×{height}×{width}×{channels} → {out}, {kh}×{kw}"
    if stride != (1, 1):
        text += f", stride {stride[0]}×{stride[1]}"
    if dilation != (1, 1):
        text += f", dilation {dilation[0]}×{dilation[1]}"
    if groups > 1:
        text += f", {groups} groups"
    return f"{text}, {case.experts} experts"


def _mode(case: Any) -> str:
    return "training" if case.training else "inference"


def _time(result: Any, strategy: str) -> str:
    """Milliseconds, or in a word why there are none."""
    if strategy in result.milliseconds:
        return f"{result.milliseconds[strategy]:.2f}"
    reason = result.left_out.get(strategy, "")
    return reason.partition(":")[0] if reason.startswith(("slow", "wrong")) else "–"


def _choice(result: Any) -> str:
    if not result.measurement:
        return "none is right"
    if result.chosen == result.default:
        return f"{result.chosen} (default)"
    if result.default not in result.milliseconds:
        return f"{result.chosen} (tuned)"
    faster = result.milliseconds[result.default] / result.milliseconds[result.chosen]
    return f"{result.chosen} (tuned, {faster:.2f}× as fast as {result.default})"


def _cases(number: int) -> str:
    return "1 case" if number == 1 else f"{number} cases"
