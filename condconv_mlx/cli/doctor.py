"""`condconv-mlx doctor`: what this machine has, what is missing, and how to get it."""

import argparse
import json
import math
from typing import Any

from condconv_mlx.doctor import examine, rows

EXAMPLE = """\
examples:
  condconv-mlx doctor
  condconv-mlx doctor --verify
  condconv-mlx doctor --json
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what this machine has and what is missing",
        description="Say what this machine has, how fast it computes, what is missing, and how to get it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--verify", action="store_true", help="check every function and gradient on this device against a plain loop"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report. The exit status is 1 where something keeps condconv-mlx from working, or a check fails."""
    report = examine()
    healthy = not report["problems"]
    if not args.json:
        print(describe(report))
    if args.verify and report["mlx"]["device"]:
        healthy &= _verify(report, quiet=args.json)
    if args.json:
        print(json.dumps(report, indent=2))
    return 0 if healthy else 1


def describe(report: dict[str, Any]) -> str:
    """The report as lines."""
    pairs = rows(report)
    width = max(len(name) for name, _ in pairs)
    lines = [f"{name:<{width}}  {value}" for name, value in pairs]
    for title, sentences in (("What is wrong", report["problems"]), ("What would help", report["advice"])):
        if sentences:
            lines += ["", title, *(f"- {sentence}" for sentence in sentences)]
    if not report["problems"]:
        lines += ["", "Everything that condconv-mlx needs is here."]
    return "\n".join(lines)


def _verify(report: dict[str, Any], quiet: bool) -> bool:
    """Run the checks into the report and print them; whether all passed."""
    from condconv_mlx.verify import verify

    if not quiet:
        print(f"\nFunctions and gradients on {report['mlx']['device']}, against a plain loop on the CPU")
        print(f"{'':30}  {'dtype':8}  cases  largest relative error (allowed)")
    report["verify"] = []
    for check in verify():
        # JSON has no infinity, which stands for a function that failed.
        error = check.error if math.isfinite(check.error) else None
        report["verify"].append(vars(check) | {"error": error, "passed": check.passed})
        if not quiet:
            verdict = "ok" if check.passed else f"WRONG: {check.worst}"
            row = f"{check.name:30}  {check.dtype:8}  {check.cases:5}  {check.error:.1e} ({check.tolerance:.0e})"
            print(f"{row}  {verdict}", flush=True)
    wrong = [check for check in report["verify"] if not check["passed"]]
    if not quiet:
        total = len(report["verify"])
        print(f"{len(wrong)} of {total} checks are wrong." if wrong else f"All {total} checks agree.")
    return not wrong
