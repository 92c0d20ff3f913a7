"""The command line: one module a command, MLX imported only when a command runs."""

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import NoReturn

from condconv_mlx._backend import BackendError, check
from condconv_mlx.cpu import hint_once, tune_process

COMMANDS = (
    "app",
    "train",
    "evaluate",
    "predict",
    "bench",
    "study",
    "tune",
    "convert",
    "models",
    "runs",
    "cache",
    "doctor",
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse prints the usage too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"condconv-mlx: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0 for success, 2 for a wrong argument, 130 after Ctrl-C, 1 for anything else.
    """
    # Once, however often this is called in a process.
    atexit.unregister(_end_streams)
    atexit.register(_end_streams)
    try:
        args = _parser().parse_args(argv)
        # For a command that starts itself again.
        args.argv = list(sys.argv[1:] if argv is None else argv)
        # doctor has to answer where nothing works.
        if args.command != "doctor":
            tune_process()
            check()
            if args.command != "models":
                hint_once()
        return args.run(args)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader, `head` say, has what it wanted. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, BackendError) as error:
        print(f"condconv-mlx: {_one_line(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="condconv-mlx",
        description="CondConv for Apple silicon, in MLX: networks that mix a kernel for every image.",
        epilog="start with: condconv-mlx app",
    )
    parser.add_argument("--version", action="version", version=f"condconv-mlx {metadata.version('condconv-mlx')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"{__name__}.{name}").add_parser(subparsers)
    return parser


def _end_streams() -> None:
    """End MLX's threads before Python ends: one that still drops what belongs to Python takes the process down with
    "terminate called without an active exception" (mlx pull request 4110, where its authors ask for this call)."""
    if mlx := sys.modules.get("mlx.core"):
        mlx.clear_streams()


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())
