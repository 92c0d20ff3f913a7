"""CIFAR-10 and Fashion-MNIST from tiny files of the true format, and the names `load_dataset` takes."""

import gzip
import hashlib
import io
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data_server import Server

from condconv_mlx.data import DataError, cache_dir, cifar10, fashion_mnist, list_datasets, load_dataset

RECORDS = 5
FASHION_COUNTS = {"train": 7, "t10k": 3}


def cifar_batches() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    records = {name: rng.integers(0, 256, (RECORDS, 3073), dtype=np.uint8) for name in names}
    for array in records.values():
        array[:, 0] %= 10
    return {name: array.tobytes() for name, array in records.items()}


def archive(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> bytes:
    content = archive({"batches.meta.txt": b"airplane\n", **cifar_batches(), "readme.html": b"<html>"})
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(content).hexdigest())
    return content


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def fashion_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    arrays = {}
    for part, count in FASHION_COUNTS.items():
        arrays[f"{part}-images-idx3-ubyte.gz"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte.gz"] = rng.integers(0, 10, count, dtype=np.uint8)
    return arrays


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    files = {name: gzip.compress(idx(array)) for name, array in fashion_arrays().items()}
    monkeypatch.setattr(fashion_mnist, "COUNTS", FASHION_COUNTS)
    monkeypatch.setattr(fashion_mnist, "MD5", {name: hashlib.md5(files[name]).hexdigest() for name in files})
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    return files


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def check_cifar(cache: Path) -> None:
    found = load_dataset("cifar10", cache, progress=False)
    assert found.name == "cifar10" and found.labels[:3] == ["airplane", "automobile", "bird"]
    assert found.train_images.shape == (25, 32, 32, 3) and found.test_images.shape == (5, 32, 32, 3)
    assert found.train_images.dtype == np.uint8 and found.train_labels.dtype == np.int32
    record = np.frombuffer(cifar_batches()["data_batch_2.bin"], dtype=np.uint8)[:3073]
    assert found.train_labels[5] == record[0]
    # Planes of red, green and blue, each row by row.
    assert found.train_images[5, 3, 7].tolist() == [record[1 + plane * 1024 + 3 * 32 + 7] for plane in range(3)]


def check_fashion(cache: Path) -> None:
    found = load_dataset("fashion_mnist", cache, progress=False)
    assert found.name == "fashion_mnist" and found.labels[9] == "Ankle boot" and len(found.labels) == 10
    arrays = fashion_arrays()
    np.testing.assert_array_equal(found.train_images[..., 0], arrays["train-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(found.train_labels, arrays["train-labels-idx1-ubyte.gz"])
    np.testing.assert_array_equal(found.test_images[..., 0], arrays["t10k-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(found.test_labels, arrays["t10k-labels-idx1-ubyte.gz"])
    assert found.train_images.shape == (7, 28, 28, 1) and found.train_labels.dtype == np.int32
    found.train_images[0] = 0


def test_names() -> None:
    assert list_datasets() == ["cifar10", "fashion_mnist"]
    with pytest.raises(DataError, match="unknown data set 'cifar': choose cifar10, fashion_mnist or folder:PATH"):
        load_dataset("cifar")
    with pytest.raises(DataError, match="names no folder"):
        load_dataset("folder:")
    with pytest.raises(DataError, match="unknown data set 'folder'"):
        load_dataset("folder")


def test_cifar_is_downloaded_once(
    cifar: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_CIFAR10_URL", server.url)
    server.files["cifar-10-binary.tar.gz"] = cifar
    check_cifar(tmp_path)
    check_cifar(tmp_path)
    assert len(server.requests) == 1
    assert [file.name for file in (tmp_path / "cifar10").iterdir()] == ["cifar-10-binary.tar.gz"]


def test_cifar_as_a_browser_may_leave_it(cifar: bytes, tmp_path: Path) -> None:
    put(tmp_path / "tar/cifar10", {"cifar-10-binary.tar": gzip.decompress(cifar)})
    check_cifar(tmp_path / "tar")
    put(tmp_path / "folder/cifar10/cifar-10-batches-bin", cifar_batches())
    check_cifar(tmp_path / "folder")


def test_cifar_offline(cifar: bytes, nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_CIFAR10_URL", nowhere)
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10", tmp_path, progress=False)
    assert f"{nowhere}/cifar-10-binary.tar.gz" in str(caught.value)
    assert f"put it in {tmp_path / 'cifar10'}" in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_cifar_cut_short(share: float, cifar: bytes, tmp_path: Path) -> None:
    put(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": cifar[: int(len(cifar) * share)]})
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz is damaged \(.*\): delete it"):
        load_dataset("cifar10", tmp_path)


def test_cifar_with_a_flipped_bit(cifar: bytes, tmp_path: Path) -> None:
    broken = bytearray(cifar)
    broken[len(broken) // 2] ^= 1
    put(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": bytes(broken)})
    with pytest.raises(DataError, match="is damaged") as caught:
        load_dataset("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data_batch_3.bin": b"\1" * (RECORDS * 3073 - 1)}, f"a batch of {RECORDS * 3073 - 1} bytes, wanted 5 × 3073"),
        ({"data_batch_3.bin": b"\1" * (RECORDS * 3073 + 9)}, f"a batch of {RECORDS * 3073 + 1} bytes"),
        ({"test_batch.bin": b"\x0a" * (RECORDS * 3073)}, "class 10, wanted 0 to 9"),
        ({"test_batch.bin": None}, r"no test_batch\.bin"),
    ],
)
def test_cifar_of_another_shape(change: dict[str, bytes | None], reason: str, cifar: bytes, tmp_path: Path) -> None:
    files = {name: content for name, content in {**cifar_batches(), **change}.items() if content is not None}
    put(tmp_path / "archive/cifar10", {"cifar-10-binary.tar.gz": archive(files)})
    with pytest.raises(DataError, match=reason):
        load_dataset("cifar10", tmp_path / "archive")
    put(tmp_path / "folder/cifar10/cifar-10-batches-bin", files)
    with pytest.raises(DataError, match="is damaged"):
        load_dataset("cifar10", tmp_path / "folder")


def test_cifar_archives_with_links_are_refused(cifar: bytes, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in cifar_batches():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(entry)
    put(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": buffer.getvalue()})
    with pytest.raises(DataError, match="is damaged"):
        load_dataset("cifar10", tmp_path)


def test_fashion_is_downloaded_once(
    fashion: dict[str, bytes], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_FASHION_MNIST_URL", server.url)
    server.files.update(fashion)
    check_fashion(tmp_path)
    check_fashion(tmp_path)
    assert sorted(name for name, _ in server.requests) == sorted(fashion)


def test_fashion_fetches_only_what_is_missing(
    fashion: dict[str, bytes], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_FASHION_MNIST_URL", server.url)
    server.files.update(fashion)
    last = "t10k-labels-idx1-ubyte.gz"
    put(tmp_path / "fashion-mnist", {name: content for name, content in fashion.items() if name != last})
    check_fashion(tmp_path)
    assert server.requests == [(last, None)]


def test_fashion_of_the_system_may_be_compressed_otherwise(fashion: dict[str, bytes], tmp_path: Path) -> None:
    again = {name: gzip.compress(gzip.decompress(content), compresslevel=1) for name, content in fashion.items()}
    assert again != fashion
    put(tmp_path / "system", again)
    check_fashion(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_fashion_unpacked(fashion: dict[str, bytes], tmp_path: Path) -> None:
    unpacked = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in fashion.items()}
    put(tmp_path / "fashion-mnist", unpacked)
    check_fashion(tmp_path)


def test_fashion_offline_names_all_files(
    fashion: dict[str, bytes], nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_FASHION_MNIST_URL", nowhere)
    with pytest.raises(DataError) as caught:
        load_dataset("fashion_mnist", tmp_path, progress=False)
    assert all(f"{nowhere}/{name}" in str(caught.value) for name in fashion)
    assert f"put them in {tmp_path / 'fashion-mnist'}" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip at all",
        gzip.compress(b""),
        gzip.compress(idx(np.zeros((7, 28, 28), dtype=np.uint8)))[:-20],
        gzip.compress(idx(np.zeros((7, 28, 28), dtype=np.uint8))[:-1]),
        gzip.compress(idx(np.zeros((7, 28, 28), dtype=np.uint8)) + b"more"),
        gzip.compress(idx(np.zeros((8, 28, 28), dtype=np.uint8))),
        gzip.compress(idx(np.zeros((7, 27, 28), dtype=np.uint8))),
        gzip.compress(idx(np.zeros(7, dtype=np.uint8))),
        gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)),
    ],
)
def test_fashion_images_that_are_damaged(content: bytes, fashion: dict[str, bytes], tmp_path: Path) -> None:
    put(tmp_path / "fashion-mnist", {**fashion, "train-images-idx3-ubyte.gz": content})
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte\.gz (is damaged|is no idx file of 7 × 28 × 28 bytes)"
    ):
        load_dataset("fashion_mnist", tmp_path)


def test_fashion_with_a_flipped_bit(fashion: dict[str, bytes], tmp_path: Path) -> None:
    name = "t10k-images-idx3-ubyte.gz"
    broken = bytearray(fashion[name])
    broken[len(broken) // 2] ^= 1
    put(tmp_path / "fashion-mnist", {**fashion, name: bytes(broken)})
    with pytest.raises(DataError, match="is damaged"):
        load_dataset("fashion_mnist", tmp_path)


def test_fashion_labels_out_of_range(fashion: dict[str, bytes], tmp_path: Path) -> None:
    labels = gzip.compress(idx(np.array([1, 10, 2], dtype=np.uint8)))
    put(tmp_path / "fashion-mnist", {**fashion, "t10k-labels-idx1-ubyte.gz": labels})
    with pytest.raises(DataError, match="holds the class 10, wanted 0 to 9"):
        load_dataset("fashion_mnist", tmp_path)


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONDCONV_MLX_CACHE", "~/mine")
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("CONDCONV_MLX_CACHE")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == tmp_path / "Library/Caches/condconv-mlx"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg/condconv-mlx"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == tmp_path / ".cache/condconv-mlx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / ".cache/condconv-mlx"


def test_the_cache_folder_of_the_environment_is_used(
    fashion: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "mine/fashion-mnist", fashion)
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path / "mine"))
    assert len(load_dataset("fashion_mnist", progress=False).train_images) == 7
