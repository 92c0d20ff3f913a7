"""Questions before something is done that cannot be undone."""

import sys


def confirm(question: str, yes: bool, otherwise: str) -> None:
    """Ask on the terminal; "no" is the default. `ValueError` saying `otherwise` unless the answer, or `yes`, is yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ValueError(f"{otherwise}: this is no terminal to ask in; say --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ValueError(otherwise)
