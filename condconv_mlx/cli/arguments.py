"""Arguments that several commands take, as argparse's `type`."""

import argparse


def experts(text: str) -> int | None:
    """A number of experts, or "none" for a static network."""
    if text == "none":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a number above 0 or "none", got "{text}"')
    return int(text)


def at_least_one(text: str) -> int:
    """An integer above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a number above 0, got "{text}"')
    return int(text)
