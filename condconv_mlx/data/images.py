"""Pictures of any kind to RGB, and from there to the small square a network takes."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 100_000_000
KEPT_PIXELS = 4096 * 4096
# Nothing beyond so many squares side by side can reach the square in the middle.
LONGEST = 16
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """A file that cannot be used as a picture. The message is a sentence fit for a page."""


@dataclass(frozen=True)
class Box:
    """A square cut from an image: left and top edge and side, in pixels of the upright image."""

    left: int
    top: int
    size: int


def open_image(source: bytes | Path, name: str = "") -> Image.Image:
    """Decode a picture to mode RGB: upright, alpha over white, the first frame of an animation.

    Reads PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF where Pillow has it, and HEIC where pillow-heif is installed. A picture
    of more than KEPT_PIXELS is reduced by a whole factor, so that memory stays bounded. `name` is used in messages.
    Raises ImageError for anything that is no picture, damaged, or larger than MAX_BYTES or MAX_PIXELS.
    """
    label = name or (source.name if isinstance(source, Path) else "This file")
    data = _read(source, label) if isinstance(source, Path) else source
    _check_bytes(len(data), label)
    if not data:
        raise ImageError(f"{label} is empty.")
    if _is_heif(data):
        _register_heif(label)
    # Decoders of untrusted files raise nearly anything (OSError, SyntaxError, struct.error, KeyError …), and each of
    # these means the same to the person who brought the file.
    try:
        image = _identify(data, label)
        _check_pixels(image, label)
        return _decode(image)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(label) from error
    except MemoryError as error:
        raise ImageError(f"{label} needs more memory than there is. Try a smaller copy of it.") from error
    except Exception as error:
        raise _damaged(label) from error


def default_crop(size: tuple[int, int], fraction: float = 1.0) -> Box:
    """The centred square of an image of `size` (width, height), its side that `fraction` of the shorter side."""
    width, height = size
    side = max(1, round(min(width, height) * fraction))
    return Box((width - side) // 2, (height - side) // 2, side)


def fit_image(
    image: Image.Image,
    size: int,
    channels: int,
    box: Box | None = None,
    invert: bool | None = None,
    *,
    crop: float | None = None,
    interpolation: str = "lanczos",
) -> np.ndarray:
    """Crop, shrink with antialiasing, and turn grey or inverted as a network needs it: uint8 (size, size, channels).

    Without a `box`, the whole centred square is taken, or the part of it that a network was evaluated on: `crop`, in
    (0, 1], brings the shorter side to floor(size / crop) and takes the middle, to the pixel as timm and torchvision
    do. `interpolation` is one of INTERPOLATIONS. `invert=None` decides for one channel by `looks_dark_on_light` of the
    crop, and leaves three channels as they are.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if crop is not None and not 0 < crop <= 1:
        raise ValueError(f"crop must be above 0 and at most 1, got {crop}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
    if image.mode not in ("L", "RGB"):
        image = _flatten(image)
    resample = Image.Resampling[interpolation.upper()]
    if box is None and crop is not None:
        square = _middle(image, size, crop, resample)
    else:
        square = _cut(image, size, box or default_crop(image.size), resample)
    pixels = np.array(square.convert("L" if channels == 1 else "RGB")).reshape(size, size, channels)
    if invert is None:
        invert = channels == 1 and looks_dark_on_light(square)
    return 255 - pixels if invert else pixels


def looks_dark_on_light(image: Image.Image) -> bool:
    """Whether the border of an image is brighter than its middle, as of a garment photographed on white.

    Fashion-MNIST shows light garments on black, so such a picture wants inverting first.
    """
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float32)
    inner = np.zeros((32, 32), dtype=bool)
    inner[2:-2, 2:-2] = True
    return bool(np.median(grey[~inner]) > grey[inner].mean())


def _cut(image: Image.Image, size: int, box: Box, resample: Image.Resampling) -> Image.Image:
    right, bottom = box.left + box.size, box.top + box.size
    if box.left < 0 or box.top < 0 or box.size < 1 or right > image.width or bottom > image.height:
        raise ValueError(
            f"box {box} lies outside the image of {image.width}×{image.height} pixels: choose a square inside it"
        )
    square = image.crop((box.left, box.top, right, bottom))
    # The gap lets Pillow average whole pixels first, down to 4 × size: faster by far on a photo, and as good.
    return square.resize((size, size), resample, reducing_gap=4.0)


def _middle(image: Image.Image, size: int, crop: float, resample: Image.Resampling) -> Image.Image:
    """Resize(floor(size / crop)) and CenterCrop(size) of torchvision, with its ways of rounding."""
    side = min(image.size)
    if max(image.size) > LONGEST * side:
        # A line of one pixel would grow to hundreds of times its size.
        width, height = (min(length, LONGEST * side) for length in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    short = math.floor(size / crop)
    width, height = (int(short * length / side) for length in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), resample).crop((left, top, left + size, top + size))


def _read(path: Path, label: str) -> bytes:
    try:
        with path.open("rb") as file:
            # One byte more than allowed is enough to know that it is too large.
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ImageError(f"{label} does not exist.") from error
    except IsADirectoryError as error:
        raise ImageError(f"{label} is a folder, not a picture.") from error
    except OSError as error:
        raise ImageError(f"{label} cannot be read ({error.strerror}).") from error


def _check_bytes(size: int, label: str) -> None:
    if size > MAX_BYTES:
        raise ImageError(f"{label} is larger than {MAX_BYTES // 2**20} MB. Try a smaller copy of it.")


def _too_many_pixels(label: str) -> ImageError:
    return ImageError(f"{label} has more than {MAX_PIXELS // 10**6} megapixels. Try a smaller copy of it.")


def _damaged(label: str) -> ImageError:
    return ImageError(f"{label} is damaged or cut short and cannot be read as a picture.")


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS


def _check_pixels(image: Image.Image, label: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(label)


def _register_heif(label: str) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(
            f"{label} is a HEIC photo, which needs one more package: pip install pillow-heif. "
            "Or export the photo as JPEG."
        ) from error
    pillow_heif.register_heif_opener()


def _identify(data: bytes, label: str) -> Image.Image:
    # Only these formats: Pillow knows others that start programs (EPS) or that no one would upload.
    Image.init()
    try:
        return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.UnidentifiedImageError as error:
        if data.startswith(SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or _is_heif(data):
            raise _damaged(label) from error
        raise ImageError(
            f"{label} is not a picture this program can read. It takes PNG, JPEG, WebP, GIF, BMP, TIFF and HEIC."
        ) from error


def _decode(image: Image.Image) -> Image.Image:
    factor = _factor(image)
    if factor > 1 and image.format in ("JPEG", "MPO"):
        # libjpeg shrinks by 2, 4 or 8 while it decodes, which saves most of the time and memory.
        image.draft(None, (image.width // factor, image.height // factor))
    image.load()
    orientation = _orientation(image)
    image = _eight_bits(image)
    if (factor := _factor(image)) > 1:
        image = image.reduce(factor)
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    image = _flatten(image)
    # What was applied above (orientation, transparency) must not be applied again by whoever saves this image.
    image.info = {}
    return image


def _factor(image: Image.Image) -> int:
    """The smallest whole factor that brings an image down to KEPT_PIXELS."""
    factor = 1
    while (image.width // factor) * (image.height // factor) > KEPT_PIXELS:
        factor += 1
    return factor


def _orientation(image: Image.Image) -> int:
    # A picture with broken EXIF data is still a picture.
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Any mode to L, LA, RGB or RGBA."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_grey_to_bytes(np.asarray(image)))
    if image.has_transparency_data:
        return image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _grey_to_bytes(values: np.ndarray) -> np.ndarray:
    """Grey of 16 bits, 32 bits or floating point to uint8, where Pillow's own conversion clips to white.

    The white point is the first usual one that holds every value: 1 (floating point only), 255 or 65535. Values that
    fit none, negative ones included, are stretched from the least to the greatest.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    levels = (1, 255, 65535) if values.dtype.kind == "f" else (255, 65535)
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = values.min(), values.max()
    white = next((level for level in levels if low >= 0 and high <= level), None)
    if white is None:
        values, white = values - low, (high - low) or 1
    return np.rint(values * (255 / white)).astype(np.uint8)


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA"):
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
