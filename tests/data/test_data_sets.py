"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST from tiny files of the true format; the names `load_dataset` takes."""

import gzip
import hashlib
import io
import struct
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_server import Server

from condconv_mlx.data import DataError, cache_dir, cifar, list_datasets, load_dataset, mnist

RECORDS = 5
CIFAR100_COUNTS = {"train.bin": 12, "test.bin": 4}
FASHION_COUNTS = {"train": 7, "t10k": 3}


def cifar_batches() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    records = {name: rng.integers(0, 256, (RECORDS, 3073), dtype=np.uint8) for name in names}
    for array in records.values():
        array[:, 0] %= 10
    return {name: array.tobytes() for name, array in records.items()}


def cifar100_files() -> dict[str, bytes]:
    rng = np.random.default_rng(2)
    records = {name: rng.integers(0, 256, (count, 3074), dtype=np.uint8) for name, count in CIFAR100_COUNTS.items()}
    for array in records.values():
        array[:, 0] %= 20
        array[:, 1] %= 100
    return {name: array.tobytes() for name, array in records.items()}


def archive(files: dict[str, bytes], folder: str = "cifar-10-batches-bin") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> bytes:
    content = archive({"batches.meta.txt": b"airplane\n", **cifar_batches(), "readme.html": b"<html>"})
    small = replace(
        cifar.CIFAR10,
        md5=hashlib.md5(content).hexdigest(),
        train=dict.fromkeys(cifar.CIFAR10.train, RECORDS),
        test=dict.fromkeys(cifar.CIFAR10.test, RECORDS),
    )
    monkeypatch.setattr(cifar, "CIFAR10", small)
    return content


@pytest.fixture
def cifar100(monkeypatch: pytest.MonkeyPatch) -> bytes:
    names = {"fine_label_names.txt": b"apple\n", "coarse_label_names.txt": b"aquatic_mammals\n"}
    content = archive({**names, **cifar100_files()}, "cifar-100-binary")
    train, test = ({name: CIFAR100_COUNTS[name]} for name in CIFAR100_COUNTS)
    small = replace(cifar.CIFAR100, md5=hashlib.md5(content).hexdigest(), train=train, test=test)
    monkeypatch.setattr(cifar, "CIFAR100", small)
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


def idx_files(monkeypatch: pytest.MonkeyPatch, name: str, system: Path | None) -> dict[str, bytes]:
    files = {name: gzip.compress(idx(array)) for name, array in fashion_arrays().items()}
    md5 = {name: hashlib.md5(files[name]).hexdigest() for name in files}
    small = replace(getattr(mnist, name), md5=md5, train=7, test=3, system_folder=system)
    monkeypatch.setattr(mnist, name, small)
    return files


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    return idx_files(monkeypatch, "FASHION_MNIST", tmp_path / "system")


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    return idx_files(monkeypatch, "MNIST", None)


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


def check_fashion(cache: Path, name: str = "fashion_mnist", last: str = "Ankle boot") -> None:
    found = load_dataset(name, cache, progress=False)
    assert found.name == name and found.labels[9] == last and len(found.labels) == 10
    arrays = fashion_arrays()
    np.testing.assert_array_equal(found.train_images[..., 0], arrays["train-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(found.train_labels, arrays["train-labels-idx1-ubyte.gz"])
    np.testing.assert_array_equal(found.test_images[..., 0], arrays["t10k-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(found.test_labels, arrays["t10k-labels-idx1-ubyte.gz"])
    assert found.train_images.shape == (7, 28, 28, 1) and found.train_labels.dtype == np.int32
    found.train_images[0] = 0


def test_names() -> None:
    assert list_datasets() == ["cifar10", "cifar100", "fashion_mnist", "mnist"]
    choices = "choose cifar10, cifar100, fashion_mnist, mnist or folder:PATH"
    with pytest.raises(DataError, match=f"unknown data set 'cifar': {choices}"):
        load_dataset("cifar")
    with pytest.raises(DataError, match="names no folder"):
        load_dataset("folder:")
    with pytest.raises(DataError, match="unknown data set 'folder'"):
        load_dataset("folder")


def test_cifar_is_downloaded_once(
    cifar10: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_CIFAR10_URL", server.url)
    server.files["cifar-10-binary.tar.gz"] = cifar10
    check_cifar(tmp_path)
    check_cifar(tmp_path)
    assert len(server.requests) == 1
    assert [file.name for file in (tmp_path / "cifar10").iterdir()] == ["cifar-10-binary.tar.gz"]


def test_cifar_as_a_browser_may_leave_it(cifar10: bytes, tmp_path: Path) -> None:
    put(tmp_path / "tar/cifar10", {"cifar-10-binary.tar": gzip.decompress(cifar10)})
    check_cifar(tmp_path / "tar")
    put(tmp_path / "folder/cifar10/cifar-10-batches-bin", cifar_batches())
    check_cifar(tmp_path / "folder")


def test_cifar_offline(cifar10: bytes, nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_CIFAR10_URL", nowhere)
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10", tmp_path, progress=False)
    assert f"{nowhere}/cifar-10-binary.tar.gz" in str(caught.value)
    assert f"put it in {tmp_path / 'cifar10'}" in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_cifar_cut_short(share: float, cifar10: bytes, tmp_path: Path) -> None:
    put(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": cifar10[: int(len(cifar10) * share)]})
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz is damaged \(.*\): delete it"):
        load_dataset("cifar10", tmp_path)


def test_cifar_with_a_flipped_bit(cifar10: bytes, tmp_path: Path) -> None:
    broken = bytearray(cifar10)
    broken[len(broken) // 2] ^= 1
    put(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": bytes(broken)})
    with pytest.raises(DataError, match="is damaged") as caught:
        load_dataset("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"data_batch_3.bin": b"\1" * (RECORDS * 3073 - 1)},
            rf"data_batch_3\.bin of {RECORDS * 3073 - 1} bytes, wanted 5 × 3073",
        ),
        ({"data_batch_3.bin": b"\1" * (RECORDS * 3073 + 9)}, f"of {RECORDS * 3073 + 1} bytes"),
        ({"test_batch.bin": b"\x0a" * (RECORDS * 3073)}, "class 10, wanted 0 to 9"),
        ({"test_batch.bin": None}, r"no test_batch\.bin"),
    ],
)
def test_cifar_of_another_shape(change: dict[str, bytes | None], reason: str, cifar10: bytes, tmp_path: Path) -> None:
    files = {name: content for name, content in {**cifar_batches(), **change}.items() if content is not None}
    put(tmp_path / "archive/cifar10", {"cifar-10-binary.tar.gz": archive(files)})
    with pytest.raises(DataError, match=reason):
        load_dataset("cifar10", tmp_path / "archive")
    put(tmp_path / "folder/cifar10/cifar-10-batches-bin", files)
    with pytest.raises(DataError, match="is damaged"):
        load_dataset("cifar10", tmp_path / "folder")


def test_cifar_archives_with_links_are_refused(cifar10: bytes, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in cifar_batches():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(entry)
    put(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": buffer.getvalue()})
    with pytest.raises(DataError, match="is damaged"):
        load_dataset("cifar10", tmp_path)


def check_cifar100(cache: Path) -> None:
    found = load_dataset("cifar100", cache, progress=False)
    assert found.name == "cifar100" and len(set(found.labels)) == 100 and found.labels == sorted(found.labels)
    assert (found.labels[0], found.labels[51], found.labels[99]) == ("apple", "mushroom", "worm")
    assert found.train_images.shape == (12, 32, 32, 3) and found.test_images.shape == (4, 32, 32, 3)
    for labels, images, name in (
        (found.train_labels, found.train_images, "train.bin"),
        (found.test_labels, found.test_images, "test.bin"),
    ):
        records = np.frombuffer(cifar100_files()[name], dtype=np.uint8).reshape(-1, 3074)
        # The second byte is the fine class.
        np.testing.assert_array_equal(labels, records[:, 1])
        np.testing.assert_array_equal(images[:, 3, 7, 2], records[:, 2 + 2 * 1024 + 3 * 32 + 7])


def test_cifar100_is_downloaded_once(
    cifar100: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_CIFAR100_URL", server.url)
    server.files["cifar-100-binary.tar.gz"] = cifar100
    check_cifar100(tmp_path)
    check_cifar100(tmp_path)
    assert server.requests == [("cifar-100-binary.tar.gz", None)]


def test_a_broken_download_of_cifar100_goes_on(
    cifar100: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_CIFAR100_URL", server.url)
    server.files["cifar-100-binary.tar.gz"] = cifar100
    server.cut, server.cuts = 10_000, 1
    check_cifar100(tmp_path)
    assert [wanted for _, wanted in server.requests] == [None, "bytes=10000-"]


def test_cifar100_unpacked(cifar100: bytes, tmp_path: Path) -> None:
    put(tmp_path / "tar/cifar100", {"cifar-100-binary.tar": gzip.decompress(cifar100)})
    check_cifar100(tmp_path / "tar")
    put(tmp_path / "folder/cifar100/cifar-100-binary", cifar100_files())
    check_cifar100(tmp_path / "folder")


def test_cifar100_offline(cifar100: bytes, nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_CIFAR100_URL", nowhere)
    with pytest.raises(DataError, match=f"{nowhere}/cifar-100-binary.tar.gz .* put it in {tmp_path / 'cifar100'}"):
        load_dataset("cifar100", tmp_path, progress=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train.bin": b"\1" * (12 * 3073)}, rf"train\.bin of {12 * 3073} bytes, wanted 12 × 3074"),
        ({"test.bin": b"\x64" * (4 * 3074)}, "class 100, wanted 0 to 99"),
        ({"test.bin": None}, r"no test\.bin"),
    ],
)
def test_cifar100_of_another_shape(
    change: dict[str, bytes | None], reason: str, cifar100: bytes, tmp_path: Path
) -> None:
    files = {name: content for name, content in {**cifar100_files(), **change}.items() if content is not None}
    put(tmp_path / "cifar100", {"cifar-100-binary.tar.gz": archive(files, "cifar-100-binary")})
    with pytest.raises(DataError, match=reason):
        load_dataset("cifar100", tmp_path)


def test_mnist_is_downloaded_once(
    digits: dict[str, bytes], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_MNIST_URL", server.url)
    server.files.update(digits)
    check_fashion(tmp_path, "mnist", "9")
    check_fashion(tmp_path, "mnist", "9")
    assert sorted(name for name, _ in server.requests) == sorted(digits)
    assert sorted(file.name for file in (tmp_path / "mnist").iterdir()) == sorted(digits)


def test_mnist_from_its_mirror(
    digits: dict[str, bytes], nowhere: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "MNIST", replace(mnist.MNIST, urls=(nowhere, server.url)))
    server.files.update(digits)
    check_fashion(tmp_path, "mnist", "9")


def test_mnist_offline_names_all_files(
    digits: dict[str, bytes], nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDCONV_MLX_MNIST_URL", nowhere)
    with pytest.raises(DataError, match="MNIST is not here and could not be downloaded") as caught:
        load_dataset("mnist", tmp_path, progress=False)
    assert all(f"{nowhere}/{name}" in str(caught.value) for name in digits)
    assert f"put them in {tmp_path / 'mnist'}" in str(caught.value)


def test_mnist_of_wrong_shape(digits: dict[str, bytes], tmp_path: Path) -> None:
    wrong = gzip.compress(idx(np.zeros((7, 28, 27), dtype=np.uint8)))
    put(tmp_path / "mnist", {**digits, "train-images-idx3-ubyte.gz": wrong})
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is no idx file of 7 × 28 × 28 bytes"):
        load_dataset("mnist", tmp_path)


def test_where_the_sets_lie(
    cifar100: bytes, digits: dict[str, bytes], fashion: dict[str, bytes], tmp_path: Path
) -> None:
    assert cifar.CIFAR100.place(tmp_path) is None and mnist.MNIST.place(tmp_path) is None
    put(tmp_path / "cifar100", {"cifar-100-binary.tar": b""})
    assert cifar.CIFAR100.place(tmp_path) == tmp_path / "cifar100/cifar-100-binary.tar"
    put(tmp_path / "mnist", {name: content for name, content in digits.items() if "t10k-labels" not in name})
    assert mnist.MNIST.place(tmp_path) is None
    put(tmp_path / "mnist", {name.removesuffix(".gz"): b"" for name in digits})
    assert mnist.MNIST.place(tmp_path) == tmp_path / "mnist"
    put(tmp_path / "system", fashion)
    assert mnist.FASHION_MNIST.place(tmp_path) == tmp_path / "system"


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
