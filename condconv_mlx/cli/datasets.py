"""What commands say about data sets."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def trained_on(model: Any, path: str) -> str | None:
    """The data that a run trained its model on, for `load_dataset`, as the settings beside its weights say.

    None if `path` is no file in the folder of the run that made the model.
    """
    from condconv_mlx.checkpoint import CheckpointError
    from condconv_mlx.data import split_options
    from condconv_mlx.runs.finding import SETTINGS
    from condconv_mlx.training.run_folder import read_json

    weights = Path(path)
    if not weights.is_file():
        return None
    try:
        settings = read_json(weights.resolve().parent / SETTINGS)
        data, source, config = settings["data"], settings["source"], settings["config"]
    except (CheckpointError, KeyError, TypeError):
        return None
    if not isinstance(data, str) or not isinstance(source, str) or config != model.config:
        return None
    kind, _, place = source.partition(" ")
    if data.startswith("folder:") and kind in ("folder", "zip"):
        # What was typed may have been meant from another folder.
        typed = data.removeprefix("folder:")
        return f"folder:{place}{typed.removeprefix(split_options(typed)[0])}"
    return data


def same_pictures_split_otherwise(first: str, second: str) -> bool:
    """Whether two are the same folder of pictures, of which other ones are for testing."""
    from condconv_mlx.data import split_options

    if not (first.startswith("folder:") and second.startswith("folder:")):
        return False
    (one, mine), (other, theirs) = (split_options(each.removeprefix("folder:")) for each in (first, second))
    same = Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
    return same and any(mine.get(name) != theirs.get(name) for name in ("seed", "test_share"))


def difference(mine: list[str], theirs: list[str]) -> tuple[str, str]:
    """The first classes that only one of two lists has, of each; of equal sets in another order, the first of all."""
    from condconv_mlx.data import few

    only = [[label for label in a if label not in b] or a for a, b in ((mine, set(theirs)), (theirs, set(mine)))]
    return few(only[0]), few(only[1])
