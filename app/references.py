"""What a model's routing weights usually are: from its file beside the weights, or from the tray."""

from functools import lru_cache
from pathlib import Path

from condconv_mlx.app import engine
from condconv_mlx.app.frame import View
from condconv_mlx.explain import Reference, load_reference, reference


def usual(view: View) -> Reference:
    """Of the images that the model was tested on where that is known, else of the tray's pictures."""
    path = engine.file_of(view.card.name)
    status = path.stat()
    found = _read(path, status.st_mtime_ns, status.st_size)
    if found:
        return found
    return reference({routing.router: routing.weights for routing in view.answer().routing}, "pictures of the tray")


@lru_cache(maxsize=32)
def _read(path: Path, modified: int, size: int) -> Reference | None:
    return load_reference(path)
