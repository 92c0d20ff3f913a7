"""Pictures of every mode and format, and files that are none."""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from condconv_mlx.data import Box, ImageError, default_crop, fit_image, images, looks_dark_on_light, open_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def photo(width: int = 40, height: int = 30) -> Image.Image:
    """Smooth colours, so that lossy formats keep them."""
    across = np.linspace(0, 255, width)[None, :].repeat(height, axis=0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, axis=1)
    return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


def noise(width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG file written by hand, for the kinds that Pillow reads but does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(format: str, tmp_path: Path) -> None:
    data = encode(photo(), format)
    file = tmp_path / f"picture.{format.lower()}"
    file.write_bytes(data)
    for found in (open_image(data), open_image(file)):
        assert found.mode == "RGB" and found.size == (40, 30)
        assert np.abs(np.asarray(found, dtype=int) - np.asarray(photo(), dtype=int)).mean() < 20


def test_lossless_pixels_are_kept() -> None:
    np.testing.assert_array_equal(open_image(encode(noise(), "PNG")), noise())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int, format: str) -> None:
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste(RED, (0, 0, 16, 16))
    upright.paste(GREEN, (32, 0, 48, 16))
    undo = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.ROTATE_90, Image.Transpose.FLIP_TOP_BOTTOM],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in undo[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
    found = open_image(encode(stored, format, exif=exif, **options))
    assert found.size == (48, 32)
    assert np.abs(np.asarray(found, dtype=int) - np.asarray(upright, dtype=int)).max() < 40
    assert found.getexif().get(0x0112) is None
    again = open_image(encode(found, "PNG"))
    assert again.size == (48, 32)


@pytest.mark.filterwarnings("ignore:::PIL")
def test_broken_exif_is_no_obstacle() -> None:
    data = encode(photo(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xffgarbage")
    assert open_image(data).size == (40, 30)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert open_image(encode(photo(), "JPEG", exif=exif)).size == (40, 30)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_goes_over_white(format: str) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(0, 0, 0, 0), (255, 0, 0, 255), (0, 0, 0, 128)])
    options = {"lossless": True} if format == "WEBP" else {}
    found = open_image(encode(image, format, **options))
    assert [pixel(found, x) for x in range(3)] == [WHITE, RED, (127, 127, 127)]


def test_grey_with_alpha() -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(0, 0), (60, 255)])
    found = open_image(encode(image, "PNG"))
    assert [pixel(found, 0), pixel(found, 1)] == [WHITE, (60, 60, 60)]


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    plain = open_image(encode(image, "PNG"))
    assert [pixel(plain, 0), pixel(plain, 1)] == [RED, GREEN]
    for format in ("PNG", "GIF"):
        clear = open_image(encode(image, format, transparency=1))
        assert [pixel(clear, 0), pixel(clear, 1)] == [RED, WHITE]
    partly = open_image(encode(image, "PNG", transparency=bytes([255, 128])))
    assert pixel(partly, 1) == (127, 255, 127)
    assert "transparency" not in clear.info


def test_one_transparent_colour_of_rgb_and_grey() -> None:
    image = Image.new("RGB", (2, 1), BLUE)
    image.putpixel((1, 0), GREEN)
    found = open_image(encode(image, "PNG", transparency=BLUE))
    assert [pixel(found, 0), pixel(found, 1)] == [WHITE, GREEN]
    assert pixel(open_image(encode(Image.new("L", (2, 1), 9), "PNG", transparency=9))) == WHITE


def test_one_bit() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    found = open_image(encode(image, "PNG"))
    assert [pixel(found, 0), pixel(found, 1)] == [(0, 0, 0), WHITE]


def test_cmyk() -> None:
    found = open_image(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = pixel(found)
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 257 * 64, 257 * 128, 65535]], dtype=np.uint16)
    found = open_image(encode(Image.fromarray(values), format))
    assert [pixel(found, x)[0] for x in range(4)] == [0, 64, 128, 255]


def test_tiff_of_16_bits_most_significant_byte_first() -> None:
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257 * 10, 257 * 200))
    found = open_image(encode(image, "TIFF"))
    assert [pixel(found, 0)[0], pixel(found, 1)[0]] == [10, 200]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 100, 255]], dtype=np.int32), [0, 100, 255]),
        (np.array([[0, 257 * 100, 65535]], dtype=np.int32), [0, 100, 255]),
        (np.array([[-1000, 0, 1000]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0, 500_000, 1_000_000]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0, 0.4, 1]], dtype=np.float32), [0, 102, 255]),
        (np.array([[0, 100, 254]], dtype=np.float32), [0, 100, 254]),
        (np.array([[-1, 0, 1]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0, np.nan, 1]], dtype=np.float32), [0, 0, 255]),
        (np.array([[0, np.inf, 1]], dtype=np.float32), [0, 0, 255]),
        (np.array([[-5, -5, -5]], dtype=np.float32), [0, 0, 0]),
        (np.array([[70000, 70000, 70000]], dtype=np.int32), [0, 0, 0]),
    ],
)
def test_grey_of_32_bits_is_scaled(values: np.ndarray, wanted: list[int]) -> None:
    found = open_image(encode(Image.fromarray(values), "TIFF"))
    assert [pixel(found, x)[0] for x in range(3)] == wanted


def test_png_of_16_bits_in_colour_and_with_alpha() -> None:
    rgb = png(1, 1, 16, 2, b"\x00" + struct.pack(">HHH", 65535, 0, 257 * 128))
    assert pixel(open_image(rgb)) == (255, 0, 128)
    rgba = png(1, 1, 16, 6, b"\x00" + struct.pack(">HHHH", 65535, 0, 0, 0))
    assert pixel(open_image(rgba)) == WHITE
    grey_alpha = png(1, 1, 16, 4, b"\x00" + struct.pack(">HH", 0, 65535))
    assert pixel(open_image(grey_alpha)) == (0, 0, 0)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several(format: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    found = open_image(encode(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert pixel(found, 10, 10) == RED and found.size == (20, 20)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_large_pictures_are_reduced(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "KEPT_PIXELS", 100 * 100)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = open_image(encode(photo(400, 300), format, exif=exif))
    # 120,000 pixels: a factor of 4 brings them under the limit.
    assert found.size == (75, 100)
    small = photo(400, 300).transpose(Image.Transpose.ROTATE_270).resize((75, 100), Image.Resampling.BOX)
    assert np.abs(np.asarray(found, dtype=int) - np.asarray(small, dtype=int)).max() < 12


def test_empty_file() -> None:
    with pytest.raises(ImageError, match=r"^holiday\.png is empty\.$"):
        open_image(b"", "holiday.png")


@pytest.mark.parametrize(
    "data", [b"<html><body>not found</body></html>", b"%PDF-1.7\n", b"x", b"\0" * 1000, b"PK\x03\x04" + b"\0" * 99]
)
def test_no_picture(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"notes\.txt is not a picture this program can read\. It takes PNG"):
        open_image(data, "notes.txt")


@pytest.mark.parametrize("format", ["PPM", "EPS", "ICO"])
def test_other_formats_of_pillow_are_refused(format: str) -> None:
    with pytest.raises(ImageError, match="not a picture this program can read"):
        open_image(encode(photo(), format))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(format: str, share: float) -> None:
    data = encode(noise(), format)
    with pytest.raises(ImageError, match=r"cut\.img is damaged or cut short"):
        open_image(data[: int(len(data) * share)], "cut.img")


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damage_never_escapes_as_another_error(format: str) -> None:
    rng = np.random.default_rng(7)
    data = np.frombuffer(encode(noise(24, 24), format), dtype=np.uint8)
    for _ in range(150):
        broken = data.copy()
        # Headers are where the trouble is, so half the damage goes there.
        reach = 64 if rng.random() < 0.5 else len(data)
        broken[rng.integers(0, min(reach, len(data)), 4)] = rng.integers(0, 256, 4)
        try:
            assert open_image(broken.tobytes()).mode == "RGB"
        except ImageError as error:
            assert str(error).startswith("This file ")


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (12_000, 10_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    # The rows are missing: whoever decoded them would find the file cut short instead.
    bomb = png(width, height, 8, 2, b"")
    with pytest.raises(ImageError, match=r"^bomb\.png has more than 100 megapixels\. Try a smaller copy of it\.$"):
        open_image(bomb, "bomb.png")


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_where_warnings_are_errors() -> None:
    with pytest.raises(ImageError, match="megapixels"):
        open_image(png(12_000, 10_000, 8, 2, b""))


def test_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    with pytest.raises(ImageError, match=r"big\.png is larger than 1 MB"):
        open_image(b"\0" * (2**20 + 1), "big.png")
    file = tmp_path / "big.png"
    file.write_bytes(b"\0" * (2**20 + 1))
    with pytest.raises(ImageError, match=r"big\.png is larger than 1 MB"):
        open_image(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^gone\.png does not exist\.$"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder, not a picture"):
        open_image(tmp_path)


def test_heic_without_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"IMG_1\.HEIC is a HEIC photo, .*pillow-heif.*JPEG"):
        open_image(struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + b"\0" * 50, "IMG_1.HEIC")


def test_heic() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.from_pillow(photo(64, 48)).save(file, exif=exif.tobytes(), quality=90)
    found = open_image(file.getvalue())
    assert found.mode == "RGB" and found.size == (48, 64)
    with pytest.raises(ImageError, match="damaged or cut short"):
        open_image(file.getvalue()[:-300])


def test_pillow_is_left_as_it_was() -> None:
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    open_image(encode(photo(), "JPEG"))
    with pytest.raises(ImageError):
        open_image(encode(photo(), "JPEG")[:200])
    assert (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS) == before


def test_default_crop() -> None:
    assert default_crop((40, 30)) == Box(5, 0, 30)
    assert default_crop((30, 41)) == Box(0, 5, 30)
    assert default_crop((1, 1)) == Box(0, 0, 1)


def test_fit_keeps_an_image_of_the_right_size() -> None:
    image = noise(32, 32)
    np.testing.assert_array_equal(fit_image(image, 32, 3), image)


def test_fit_crops() -> None:
    image = noise(50, 40)
    found = fit_image(image, 16, 3, Box(7, 9, 16))
    np.testing.assert_array_equal(found, np.asarray(image)[9:25, 7:23])


@pytest.mark.parametrize(("side", "size"), [(256, 32), (2000, 28), (33, 32)])
def test_fit_is_antialiased(side: int, size: int) -> None:
    stripes = np.zeros((side, side), dtype=np.uint8)
    stripes[:, ::2] = 255
    found = fit_image(Image.fromarray(stripes), size, 1, invert=False)
    if side > 2 * size:
        assert found.min() > 110 and found.max() < 145
    assert found.shape == (size, size, 1) and found.dtype == np.uint8


def test_fit_enlarges_what_is_too_small() -> None:
    found = fit_image(Image.new("RGB", (3, 5), RED), 32, 3)
    assert found.shape == (32, 32, 3) and (found == RED).all()


def test_fit_takes_other_modes_and_gives_writable_pixels() -> None:
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        found = fit_image(Image.new(mode, (40, 40)), 28, 3)
        assert found.shape == (28, 28, 3)
        found[:] = 0


def test_grey_is_the_usual_luminance() -> None:
    found = fit_image(Image.new("RGB", (32, 32), (200, 100, 50)), 32, 1, invert=False)
    assert abs(int(found[0, 0, 0]) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)) <= 1


def garment(ground: int, cloth: int) -> Image.Image:
    image = Image.new("RGB", (200, 300), (ground,) * 3)
    image.paste((cloth,) * 3, (50, 20, 150, 280))
    return image


def test_dark_on_light() -> None:
    assert looks_dark_on_light(garment(255, 30))
    assert looks_dark_on_light(garment(250, 235))
    assert looks_dark_on_light(garment(140, 60))
    assert not looks_dark_on_light(garment(0, 200))
    assert not looks_dark_on_light(garment(60, 140))
    assert not looks_dark_on_light(Image.new("RGB", (50, 50), "black"))


def test_inversion_is_automatic_for_one_channel_only() -> None:
    dark = garment(255, 30)
    assert fit_image(dark, 28, 1)[14, 14, 0] == 225
    assert fit_image(dark, 28, 1)[14, 0, 0] == 0
    assert fit_image(dark, 28, 1, invert=False)[14, 14, 0] == 30
    assert fit_image(dark, 28, 3)[14, 14, 0] == 30
    assert fit_image(dark, 28, 3, invert=True)[14, 14, 0] == 225
    light = garment(0, 200)
    assert fit_image(light, 28, 1)[14, 14, 0] == 200
    assert fit_image(light, 28, 1, invert=True)[14, 14, 0] == 55


def test_inversion_is_decided_by_the_crop() -> None:
    image = Image.new("L", (200, 100), 0)
    image.paste(garment(255, 30).resize((100, 100)), (100, 0))
    assert fit_image(image, 28, 1, Box(100, 0, 100))[14, 14, 0] == 225
    assert fit_image(image, 28, 1, Box(0, 0, 100)).max() == 0


@pytest.mark.parametrize("box", [Box(-1, 0, 10), Box(0, -1, 10), Box(31, 0, 10), Box(0, 21, 10), Box(0, 0, 0)])
def test_fit_names_a_box_outside(box: Box) -> None:
    with pytest.raises(ValueError, match="lies outside the image of 40×30 pixels"):
        fit_image(photo(), 32, 3, box)


def test_fit_names_bad_sizes() -> None:
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 4"):
        fit_image(photo(), 32, 4)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        fit_image(photo(), 0, 3)
