"""A zip of pictures: the same images as from the folder, and what is refused."""

import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condconv_mlx.data import DataError, Dataset, archive, load_dataset, load_folder


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    rng = np.random.default_rng(value)
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def photos(prefix: str = "", count: int = 5) -> dict[str, bytes]:
    names = [f"{label}/{index}.png" for label in ("ant", "bee") for index in range(count)]
    return {prefix + name: png(number) for number, name in enumerate(names)}


def make(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def load(path: Path) -> Dataset:
    return load_folder(path, path.parent / "cache", progress=False)


def refused(path: Path, says: str) -> None:
    """One line that names the archive and says why, and nothing is written."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DataError, match=says) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=str
)
@pytest.mark.parametrize("prefix", ["", "photos/", "./"])
def test_a_zip_gives_what_its_folder_gives(method: int, prefix: str, tmp_path: Path) -> None:
    for name, content in photos().items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    path = make(tmp_path / "photos.zip", photos(prefix), method)
    found, wanted = load_dataset(f"folder:{path}", tmp_path / "cache", progress=False), load(tmp_path / "set")
    assert (found.name, found.labels, found.source) == ("photos", ["ant", "bee"], f"zip {path}")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_a_zip_with_its_own_split(tmp_path: Path) -> None:
    files = photos("pictures/train/", 4) | photos("pictures/test/", 2)
    assert load(make(tmp_path / "photos.zip", files)).counts() == {"ant": (4, 2), "bee": (4, 2)}


def test_nothing_is_unpacked(tmp_path: Path) -> None:
    load_folder(make(tmp_path / "photos.zip", photos()), tmp_path / "cache", progress=False, size=96)
    assert [file.name for file in tmp_path.iterdir()] == ["photos.zip"]


def test_a_changed_zip_is_decoded_anew(tmp_path: Path) -> None:
    first = load(make(tmp_path / "photos.zip", photos()))
    again = load(tmp_path / "photos.zip")
    np.testing.assert_array_equal(first.train_images, again.train_images)
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1
    changed = {name: content if name != "ant/0.png" else png(99) for name, content in photos().items()}
    other = load(make(tmp_path / "photos.zip", changed))
    assert (other.train_images != first.train_images).any() or (other.test_images != first.test_images).any()


def test_what_systems_leave_behind_is_ignored(tmp_path: Path) -> None:
    rubbish = ["__MACOSX/photos/ant/._0.png", "photos/.DS_Store", "photos/ant/Thumbs.db", "photos/ant/.hidden.png"]
    rubbish += ["photos/Icon\r", "photos/ant/\x1b[31m.png", "photos/b\ne/0.png"]
    found = load(make(tmp_path / "photos.zip", photos("photos/") | dict.fromkeys(rubbish, b"x")))
    assert found.counts() == {"ant": (4, 1), "bee": (4, 1)} and not found.skipped


def test_folders_of_their_own_entries(tmp_path: Path) -> None:
    path = make(tmp_path / "photos.zip", photos())
    with zipfile.ZipFile(path, "a") as made:
        made.mkdir("ant")
        made.mkdir("empty")
    with pytest.raises(DataError, match="empty holds no pictures"):
        load(path)


def test_an_unreadable_entry_is_left_out_and_named(tmp_path: Path) -> None:
    path = make(tmp_path / "photos.zip", photos() | {"ant/broken.png": b"no picture"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(png(6)) + 50] ^= 1  # bee/1.png no longer has its checksum
    path.write_bytes(content)
    found = load(path)
    assert found.counts() == {"ant": (4, 1), "bee": (3, 1)}
    assert list(found.skipped) == ["ant/broken.png", "bee/1.png"]
    assert "Bad CRC-32" in found.skipped["bee/1.png"]


def test_the_later_of_two_entries_of_a_name_counts(tmp_path: Path) -> None:
    path = make(tmp_path / "photos.zip", photos())
    with zipfile.ZipFile(path, "a") as made, pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr("ant/0.png", b"no picture")
    assert load(path).counts() == {"ant": (3, 1), "bee": (4, 1)}


@pytest.mark.parametrize("name", ["../ant/evil.png", "ant/../../evil.png", "..", "photos/.."])
def test_an_entry_that_climbs_out(name: str, tmp_path: Path) -> None:
    refused(make(tmp_path / "photos.zip", photos() | {name: png(1)}), "leads out of the archive")


def test_an_absolute_entry(tmp_path: Path) -> None:
    refused(make(tmp_path / "photos.zip", photos() | {"/etc/evil.png": png(1)}), "'/etc/evil.png' leads out")


@pytest.mark.parametrize("name", ["C:/ant/evil.png", "c:evil.png"])
def test_an_entry_with_a_drive_letter(name: str, tmp_path: Path) -> None:
    refused(make(tmp_path / "photos.zip", photos() | {name: png(1)}), f"'{name}' leads out")


@pytest.mark.parametrize("name", ["..\\evil.png", "ant\\evil.png", "\\\\server\\share\\evil.png"])
def test_an_entry_with_backslashes(name: str, tmp_path: Path) -> None:
    refused(make(tmp_path / "photos.zip", photos() | {name: png(1)}), "has a backslash or a zero byte in its name")


def test_an_entry_with_a_zero_byte(tmp_path: Path) -> None:
    path = make(tmp_path / "photos.zip", photos() | {"ant/evilX.png": png(1)})
    path.write_bytes(path.read_bytes().replace(b"evilX", b"evil\0"))
    refused(path, r"'ant/evil\\x00.png' has a backslash or a zero byte")


def test_a_name_cannot_break_the_line(tmp_path: Path) -> None:
    refused(make(tmp_path / "photos.zip", photos() | {"../a\nb\x1b[31m.png": png(1)}), r"a\\nb\\x1b")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO], ids=["link", "device", "pipe"])
def test_an_entry_that_is_a_link_or_a_device(kind: int, tmp_path: Path) -> None:
    path = make(tmp_path / "photos.zip", photos())
    with zipfile.ZipFile(path, "a") as made:
        entry = zipfile.ZipInfo("ant/link.png")
        entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
        made.writestr(entry, "/etc/passwd")
    refused(path, "'ant/link.png' is a link or a device")


def test_an_encrypted_entry(tmp_path: Path) -> None:
    path = make(tmp_path / "photos.zip", photos())
    content = bytearray(path.read_bytes())
    # The flags of the first entry, in its own header and in the directory at the end.
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(path, "'ant/0.png' is encrypted: make the zip without a password")


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 9)
    refused(make(tmp_path / "photos.zip", photos()), "10 entries, and the limit is 9")


def test_a_list_of_entries_that_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "photos.zip", {f"ant/{number:0200}.png": b"" for number in range(300)})
    monkeypatch.setattr(archive, "MAX_DIRECTORY", 2**16)
    refused(path, "its list of entries takes 0 MiB, and the limit is 0.0625 MiB")


def test_a_bomb_by_its_ratio(tmp_path: Path) -> None:
    bomb = make(tmp_path / "photos.zip", photos() | {"ant/bomb.png": bytes(archive.HARMLESS + 1)})
    refused(bomb, "it would unpack to [0-9]+ times its size, and the limit is 100 times")


def test_a_bomb_of_entries_that_share_their_bytes(tmp_path: Path) -> None:
    # Each entry of the directory is the same file of 1 MiB of zeros under another name.
    path = make(tmp_path / "photos.zip", {"ant/000.png": bytes(2**20)})
    content = path.read_bytes()
    start = content.index(b"PK\1\2")
    entry, end = content[start:-22], content[-22:]
    directory = b"".join(entry.replace(b"ant/000", b"ant/%03d" % number) for number in range(200))
    end = end[:8] + struct.pack("<HHII", 200, 200, len(directory), start) + end[20:]
    path.write_bytes(content[:start] + directory + end)
    refused(path, "times its size, and the limit is 100 times")


def test_a_bomb_by_its_size(tmp_path: Path) -> None:
    # The directory states 4 GB − 1 for each of 17 entries.
    path = make(tmp_path / "photos.zip", {f"ant/{number}.png": b"" for number in range(17)})
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\1\2")
    while place >= 0:
        content[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
        place = content.find(b"PK\1\2", place + 1)
    path.write_bytes(content)
    refused(path, r"it would unpack to 68\.0 GiB, and the limit is 64 GiB")


def test_an_entry_larger_than_it_says_is_read_no_further(tmp_path: Path) -> None:
    path = make(tmp_path / "photos.zip", photos() | {"ant/long.png": bytes(10**6)})
    content = bytearray(path.read_bytes())
    place = content.rindex(b"ant/long.png") - 46
    content[place + 24 : place + 28] = struct.pack("<I", 100)
    path.write_bytes(content)
    assert list(load(path).skipped) == ["ant/long.png"]


def test_pictures_that_are_bombs_are_left_out(tmp_path: Path) -> None:
    # A PNG that states 60,000 × 60,000 pixels.
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = bytearray(png(0))
    bomb[16:29] = header
    bomb[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    found = load(make(tmp_path / "photos.zip", photos() | {"ant/bomb.png": bytes(bomb)}))
    assert list(found.skipped) == ["ant/bomb.png"] and "more than 100 megapixels" in found.skipped["ant/bomb.png"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\5\6", b"PK\5\6" + b"\xff" * 18, png(1)])
def test_what_is_no_zip(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(content)
    refused(tmp_path / "photos.zip", "is no zip archive, or a damaged one|cannot be read")


@pytest.mark.parametrize("share", [0.2, 0.9, 0.99])
def test_a_zip_cut_short(share: float, tmp_path: Path) -> None:
    path = make(tmp_path / "photos.zip", photos())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "is no zip archive, or a damaged one")


def test_an_empty_zip(tmp_path: Path) -> None:
    refused(make(tmp_path / "photos.zip", {}), "has no classes")


def test_there_is_no_zip(tmp_path: Path) -> None:
    refused(tmp_path / "photos.zip", "there is no folder .* or a zip of one")
