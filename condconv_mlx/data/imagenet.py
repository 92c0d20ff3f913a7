"""Names of the 1,000 classes that networks trained on ImageNet (ILSVRC-2012) tell apart."""

from functools import cache
from importlib.resources import files


def imagenet_labels() -> list[str]:
    """The 1,000 names, each unlike the others, in the order of the logits: that of the sorted WordNet ids."""
    return list(_read())


@cache
def _read() -> tuple[str, ...]:
    text = files("condconv_mlx.data").joinpath("imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(line.split(" ", 1)[1] for line in text.splitlines() if not line.startswith("#"))
