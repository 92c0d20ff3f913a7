"""`condconv-mlx runs`: list training runs, compare them, delete them."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from condconv_mlx.cli.questions import confirm
from condconv_mlx.durations import duration
from condconv_mlx.tables import aligned

EPOCHS_SHOWN = 12
EXAMPLE = """\
examples:
  condconv-mlx runs
  condconv-mlx runs birds birds-static
  condconv-mlx runs birds birds-static --html runs.html
  condconv-mlx runs --delete birds-static
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "runs",
        help="list training runs, compare them, delete them",
        description="List the training runs below a folder, compare those that you name, or delete them.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="RUN", help="compare these: settings that differ, curves")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where to look (default: runs)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the curves of these, or of all")
    parser.add_argument("--delete", nargs="+", metavar="RUN", help="delete these, after a question")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, fail=parser.error)


def run(args: argparse.Namespace) -> int:
    """List, compare or delete."""
    from condconv_mlx.runs.finding import chosen, find_runs

    if args.delete and (args.names or args.html):
        args.fail("--delete stands alone: name the runs behind it")
    if args.yes and not args.delete:
        args.fail("--yes is for --delete")
    if args.html:
        from condconv_mlx.cli.bench import check_writable

        check_writable(args.html)
    runs = find_runs(args.folder)
    if args.delete:
        return _delete(chosen(runs, args.delete), args)
    selected = chosen(runs, args.names) or runs
    if args.html:
        from condconv_mlx.files import atomic_file
        from condconv_mlx.runs.page import page

        if not selected:
            raise ValueError(f"there are no runs in {args.folder}")
        with atomic_file(args.html) as file:
            file.write(page(selected).encode())
    if args.json:
        print(json.dumps(_json(selected, compared=bool(args.names))))
    elif args.names:
        print("\n".join(_compared(selected)))
    else:
        print("\n".join(_listed(runs)) if runs else f"There are no runs in {args.folder}")
    if args.html and not args.json:
        print(f"\n{args.html}")
    return 0


def _delete(selected: list[Any], args: argparse.Namespace) -> int:
    from condconv_mlx.caches import size_below
    from condconv_mlx.runs.finding import delete

    # Before the question, and for all of them before one is deleted.
    if running := [each for each in selected if each.status.state == "running"]:
        raise ValueError(f"{running[0].name} is running (process {running[0].status.pid}): stop it first")
    print("\n".join(_listed(selected)), file=sys.stderr)
    size = sum(size_below(each.path) for each in selected)
    plural = "s" * (len(selected) > 1)
    confirm(f"Delete {len(selected)} run{plural}, {size / 1e6:,.1f} MB?", args.yes, "nothing was deleted")
    left = {each.name: [path.name for path in delete(each)] for each in selected}
    if args.json:
        print(json.dumps({"deleted": [{"name": name, "left": files} for name, files in left.items()]}))
        return 0
    print(f"{len(selected)} run{plural} deleted")
    for each in selected:
        if left[each.name]:
            print(f"Left in {each.path}, as training did not write it: {', '.join(left[each.name])}")
    return 0


def _json(selected: list[Any], compared: bool) -> dict[str, Any]:
    from condconv_mlx.runs.finding import differing

    content: dict[str, Any] = {"runs": [each.as_json() for each in selected]}
    if compared:
        content["differ"] = differing(selected)
        content["epochs"] = {each.name: each.log.epochs for each in selected}
    return content


def _listed(runs: list[Any]) -> list[str]:
    titles = ("run", "state", "network", "data", "epochs", "held out", "test", "time", "changed")
    rows = [
        (
            each.name,
            each.status.state,
            each.network,
            str(each.settings["data"]),
            each.epochs,
            _share(each.held_out_accuracy),
            _share(each.test_accuracy),
            duration(each.seconds),
            f"{each.changed:%Y-%m-%d %H:%M}",
        )
        for each in runs
    ]
    failed = [each for each in runs if each.status.state == "failed" and each.status.message]
    said = [f"{each.name}: {each.status.message}" for each in failed]
    return [*aligned([titles, *rows], left=(0, 1, 2, 3)), *said]


def _compared(runs: list[Any]) -> list[str]:
    """The list, the settings that differ with a column for each run, and the curves."""
    from condconv_mlx.runs.finding import differing, shown

    names = [each.name for each in runs]
    lines = _listed(runs)
    differ = differing(runs)
    if len(runs) > 1:
        rows = [("settings", *names), *((name, *map(shown, row)) for name, row in differ.items())]
        lines += ["", *(aligned(rows) if differ else ["All settings are the same"])]
    curves = _curves(runs)
    if len(curves) > 1:
        lines += ["", *aligned(curves)]
    return lines


def _curves(runs: list[Any]) -> list[tuple[str, ...]]:
    """Training loss and held-out accuracy by epoch, some epochs of many."""
    by_epoch = [{line["epoch"]: line for line in each.log.epochs} for each in runs]
    epochs = sorted({epoch for lines in by_epoch for epoch in lines})
    if len(epochs) > EPOCHS_SHOWN:
        epochs = [epochs[round(i * (len(epochs) - 1) / (EPOCHS_SHOWN - 1))] for i in range(EPOCHS_SHOWN)]
    titles = ("epoch", *(f"{each.name}: {what}" for each in runs for what in ("loss", "held out")))
    rows = [titles]
    for epoch in epochs:
        cells = [str(epoch)]
        for lines in by_epoch:
            line = lines.get(epoch)
            cells += [f"{line['loss']:.4f}", _share(line["held_out_accuracy"])] if line else ["", ""]
        rows.append(tuple(cells))
    return rows


def _share(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.2%}"
