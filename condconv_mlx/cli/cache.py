"""`condconv-mlx cache`: what lies on this machine, and how to be rid of it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from condconv_mlx.cli.questions import confirm
from condconv_mlx.names import did_you_mean
from condconv_mlx.tables import aligned

EXAMPLE = """\
examples:
  condconv-mlx cache
  condconv-mlx cache --clear cifar10 pictures
  condconv-mlx cache --clear all --yes
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "cache",
        help="show what lies on this machine, and clear it",
        description="Show where data sets, downloads, runs and tuned choices lie and how large they are, or clear what "
        "you name. CONDCONV_MLX_CACHE moves our folder, HF_HOME that of the hub.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--clear", nargs="+", metavar="NAME", help='delete these; "all" is everything in our own folder'
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, fail=parser.error)


def run(args: argparse.Namespace) -> int:
    """List, or delete and list what was deleted."""
    from condconv_mlx import caches
    from condconv_mlx.files import cache_dir

    entries = {entry.name: entry for entry in caches.kept()}
    if args.clear is None:
        if args.yes:
            args.fail("--yes is for --clear")
        runs = Path("runs")
        rows = [
            *_rows(entries.values()),
            {"name": "runs", "what": "training runs", "path": str(runs.absolute()), "bytes": caches.size_below(runs)},
        ]
        if args.json:
            print(json.dumps({"folder": str(cache_dir()), "kept": rows}))
        else:
            print("\n".join(_lines(rows)))
            print(
                "\ncondconv-mlx cache --clear NAME deletes, and asks first. For runs: condconv-mlx runs --delete NAME"
            )
        return 0

    names = list(dict.fromkeys(args.clear))
    if "all" in names:
        names = [name for name, entry in entries.items() if entry.files]
    if "runs" in names:
        args.fail("runs are deleted by condconv-mlx runs --delete NAME")
    if unknown := [name for name in names if name not in entries]:
        args.fail(f'names are {", ".join([*entries, "all"])}, got "{unknown[0]}".{did_you_mean(unknown[0], entries)}')
    chosen = [entries[name] for name in names]
    if outside := next((entry for entry in chosen if entry.elsewhere), None):
        raise ValueError(f"{outside.name} is not removed here: {outside.elsewhere}")
    there = [entry for entry in chosen if entry.files]
    if there:
        if not args.json:
            print("\n".join(_lines(_rows(there))), file=sys.stderr)
        confirm(f"Delete {_megabytes(sum(entry.size for entry in there))}?", args.yes, "nothing was deleted")
        for entry in there:
            caches.remove(entry)
    if args.json:
        print(json.dumps({"deleted": _rows(there)}))
    else:
        print(f"{_megabytes(sum(entry.size for entry in there))} deleted" if there else "There was nothing to delete")
    return 0


def _rows(entries: Any) -> list[dict[str, Any]]:
    return [{"name": entry.name, "what": entry.what, "path": str(entry.path), "bytes": entry.size} for entry in entries]


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    cells = [(row["name"], row["what"], _megabytes(row["bytes"]) if row["bytes"] else "-", row["path"]) for row in rows]
    return aligned(cells, left=(0, 1, 3))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 50_000 else f"{size / 1e3:,.1f} kB"
