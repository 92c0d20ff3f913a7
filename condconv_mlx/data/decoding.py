"""Many pictures at once to one array, in threads."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from tqdm import tqdm

from condconv_mlx.data.images import MAX_BYTES, ImageError, fit_image, open_image
from condconv_mlx.data.pictures import Picture

SMALLEST, USUAL, LARGEST = 28, 32, 64  # pixels, of a size that we choose
SIZES = range(8, 1025)
QUEUED = 10_000  # pictures
DELAY = 1.0  # seconds until the bar is shown


def common_size(pictures: Sequence[Picture]) -> int:
    """A side for all pictures: their most frequent size if that is square, within [28, 64]; else 32."""
    # A thousand, evenly spread, tell enough; opening reads the header only.
    sample = pictures[:: max(1, len(pictures) // 1000)]
    sizes = Counter(size for size in map(_header_size, sample) if size)
    if not sizes:
        return USUAL
    (width, height), _ = sizes.most_common(1)[0]
    return min(max(width, SMALLEST), LARGEST) if width == height else USUAL


def decode(picture: Picture, size: int) -> np.ndarray:
    """One picture to an image (size, size, 3) uint8; ImageError if it cannot be read."""
    return fit_image(open_image(_read(picture), picture.name), size, channels=3)


def decode_all(pictures: Sequence[Picture], size: int, title: str, progress: bool) -> tuple[np.ndarray, dict[int, str]]:
    """Pictures to images (N, size, size, C) uint8, C = 1 if all are grey, else 3; and why some could not be read.

    The images of those stay black; they are named by their index.
    """
    # Black is grey, so what cannot be read does not count for colour.
    images = np.zeros((len(pictures), size, size, 3), dtype=np.uint8)

    def keep(index: int) -> None:
        images[index] = decode(pictures[index], size)

    reasons = _each(keep, len(pictures), f"reading {title}", progress)
    return images[..., :1] if _all_grey(images) else images, reasons


def check_all(pictures: Sequence[Picture], title: str, progress: bool) -> tuple[int, dict[int, str]]:
    """Decode pictures without keeping them: 1 channel if all are grey, else 3; and why some could not be read."""
    coloured = threading.Event()

    def look(index: int) -> None:
        if not _all_grey(decode(pictures[index], LARGEST)[None]):
            coloured.set()

    reasons = _each(look, len(pictures), f"checking {title}", progress)
    return 3 if coloured.is_set() else 1, reasons


def _each(work: Callable[[int], None], count: int, title: str, progress: bool) -> dict[int, str]:
    """Call `work` with each number, in threads; what it raised as ImageError, by number."""

    def reason(index: int) -> str:
        try:
            work(index)
        except ImageError as error:
            return str(error)
        return ""

    reasons = {}
    bar = tqdm(total=count, desc=title, unit="image", delay=DELAY, disable=None if progress else True)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            # A million at once would wait in memory.
            for start in range(0, count, QUEUED):
                numbers = range(start, min(start + QUEUED, count))
                for index, why in zip(numbers, pool.map(reason, numbers), strict=True):
                    if why:
                        reasons[index] = why
                    bar.update()
        except BaseException:
            # Without this, the pool would first decode all that is left.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return reasons


def _read(picture: Picture) -> bytes:
    # Out of a damaged zip comes nearly any error (BadZipFile, zlib.error, EOFError, NotImplementedError …).
    try:
        with picture.open() as file:
            # One byte more than allowed is enough to know that it is too large.
            return file.read(MAX_BYTES + 1)
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{picture.name} cannot be read ({reason}).") from error


def _header_size(picture: Picture) -> tuple[int, int] | None:
    try:
        with picture.open() as file, Image.open(file) as image:
            return image.size
    except Exception:
        return None


def _all_grey(images: np.ndarray) -> bool:
    chunks = (images[start : start + 1024] for start in range(0, len(images), 1024))
    return all((part[..., :1] == part[..., 1:]).all() for part in chunks)
