"""`condconv-mlx bench`: what CondConv costs on this machine."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from condconv_mlx.bench import SECTIONS

EXAMPLE = """\
examples:
  condconv-mlx bench
  condconv-mlx bench --only layers --only experts
  condconv-mlx bench --html bench.html
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "bench",
        help="measure what CondConv costs on this machine",
        description="Measure what CondConv costs on this machine, beside static convolutions and, where they are "
        "installed, torch with timm's CondConv2d.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure this alone; can be given repeatedly")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave torch out")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts, too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print each section when it is done, and write the page."""
    if args.html:
        check_writable(args.html)
    import mlx.core as mx
    from tqdm import tqdm

    from condconv_mlx.bench.machine import describe_machine
    from condconv_mlx.bench.measure import measure
    from condconv_mlx.bench.peers import load_peer
    from condconv_mlx.bench.text import machine_rows, section
    from condconv_mlx.cpu import cpu_status

    peer = load_peer(cpu_status().cores, mx.default_device() != mx.Device(mx.cpu)) if args.peers else None
    machine = describe_machine(peer)
    if not args.json:
        print("\n".join(f"{name:<12}  {value}" for name, value in machine_rows(machine)), flush=True)
    results = {}
    for name in [name for name in SECTIONS if name in (args.only or SECTIONS)]:

        def watch(rows: Any, count: int, name: str = name) -> Any:
            return tqdm(rows, total=count, desc=name, file=sys.stderr, leave=False, disable=None)

        results[name] = measure(name, peer, watch)
        if not args.json:
            print(f"\n{section(name, results[name].rows, results[name].findings)}", flush=True)
    if args.html:
        from condconv_mlx.bench.page import write_page

        write_page(args.html, machine, results)
    if args.json:
        print(json.dumps({"machine": asdict(machine)} | {name: result.as_json() for name, result in results.items()}))
    elif args.html:
        print(f"\n{args.html}")
    return 0


def check_writable(path: Path) -> None:
    """Raise `OSError` where a file could not be written, before minutes are spent on it."""
    if path.is_dir():
        raise OSError(f"{path} is a folder: --html wants the name of a file")
    if not path.parent.is_dir():
        raise OSError(f"there is no folder {path.parent} to write {path.name} in")
