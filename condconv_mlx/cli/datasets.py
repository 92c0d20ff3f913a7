"""What commands say about data sets."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from condconv_mlx.data import Dataset

NAMES = "cifar10, cifar100, mnist, fashion_mnist or folder:PATH, a folder or zip with one folder a class"


def warn_of_skipped(dataset: "Dataset") -> None:
    """Say in a line on standard error how many pictures could not be read, and which came first."""
    from condconv_mlx.data import few

    if not dataset.skipped:
        return
    names, reasons = list(dataset.skipped), list(dataset.skipped.values())
    total = len(names) + len(dataset.train_images) + len(dataset.test_images)
    print(
        f"condconv-mlx: {len(names)} of {total} pictures could not be read and were left out: {few(names, 5)}. "
        f"The first: {reasons[0]}",
        file=sys.stderr,
    )


def difference(mine: list[str], theirs: list[str]) -> tuple[str, str]:
    """The first classes that only one of two lists has, of each; of equal sets in another order, the first of all."""
    from condconv_mlx.data import few

    only = [[label for label in a if label not in b] or a for a, b in ((mine, set(theirs)), (theirs, set(mine)))]
    return few(only[0]), few(only[1])
