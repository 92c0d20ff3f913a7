"""Tables for a terminal."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), indent: str = "  ") -> list[str]:
    """Rows as lines with their columns below each other: those in `left` flush left, the others, numbers, flush right.

    All rows have as many cells. An index in `left` may be negative, counted from the last column.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = [index % len(widths) for index in left]
    return [
        (
            indent
            + "  ".join(
                f"{cell:<{width}}" if index in left else f"{cell:>{width}}"
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        ).rstrip()
        for row in rows
    ]
