"""Help for names that were mistyped."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to end a message with, naming those of `known` that are near; "" if none is."""
    near = get_close_matches(name, list(known))
    return f" Did you mean {' or '.join(near)}?" if near else ""
