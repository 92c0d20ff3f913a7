"""What is kept is listed by the names we give, and removing it leaves everything else."""

import fcntl
from pathlib import Path

import pytest

from condconv_mlx import caches


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(folder))
    return folder


def put(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def entry(name):
    return {entry.name: entry for entry in caches.kept()}[name]


def test_everything_has_a_name_even_where_nothing_is(cache):
    names = [entry.name for entry in caches.kept()]
    assert names[:7] == ["cifar10", "cifar100", "mnist", "fashion_mnist", "pictures", "tuning", "experts"]
    assert "tf_efficientnet_cc_b0_4e" in names[6:]
    assert all(not entry.files for entry in caches.kept())


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cifar10", ["cifar10/cifar-10-binary.tar.gz", "cifar10/cifar-10-binary.tar.gz.part"]),
        ("cifar10", ["cifar10/cifar-10-batches-bin/data_batch_3.bin", "cifar10/cifar-10-batches-bin/readme.html"]),
        ("cifar100", ["cifar100/cifar-100-binary.tar", "cifar100/cifar-100-binary/train.bin"]),
        ("mnist", ["mnist/train-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte"]),
        ("fashion_mnist", ["fashion-mnist/train-images-idx3-ubyte.gz", "fashion-mnist/t10k-images-idx3-ubyte.gz.part"]),
        ("pictures", ["folders/birds-1234-32-abcd.npz", "folders/.birds.1a2b3c4d.npz"]),
        ("tuning", ["tuning.json", "tuning.json.damaged", "tuning.json.damaged1"]),
        ("experts", ["experts.json"]),
    ],
)
def test_counted_and_removed_with_its_empty_folders_and_nothing_else(cache, name, files):
    others = [put(cache / "notes.txt"), put(cache / "mine" / "tuning.json")]
    for size, file in enumerate(files, start=5):
        put(cache / file, size)
    found = entry(name)
    assert sorted(found.files) == sorted(cache / file for file in files)
    assert found.size == sum(range(5, 5 + len(files)))
    assert all(not other.files for other in caches.kept() if other.name != name)
    caches.remove(found)
    assert sorted(path for path in cache.rglob("*") if path.is_file()) == sorted(others)
    assert sorted(path.name for path in cache.iterdir()) == ["mine", "notes.txt"]


def test_files_of_the_user_and_their_folder_stay(cache):
    put(cache / "mnist" / "train-images-idx3-ubyte.gz")
    mine = put(cache / "mnist" / "my notes.txt")
    caches.remove(entry("mnist"))
    assert [path.name for path in (cache / "mnist").iterdir()] == [mine.name]


def test_links_are_neither_followed_nor_removed(cache, tmp_path):
    elsewhere = put(tmp_path / "elsewhere" / "train-images-idx3-ubyte.gz")
    (cache / "mnist").symlink_to(elsewhere.parent)
    (cache / "fashion-mnist").mkdir()
    (cache / "fashion-mnist" / elsewhere.name).symlink_to(elsewhere)
    (cache / "tuning.json").symlink_to(elsewhere)
    for name in ("mnist", "fashion_mnist", "tuning"):
        assert entry(name).files == () and entry(name).size == 0
        caches.remove(entry(name))
    assert elsewhere.exists() and (cache / "tuning.json").is_symlink() and (cache / "mnist").is_symlink()


def test_our_folder_may_itself_be_a_link(cache, tmp_path, monkeypatch):
    file = put(cache / "tuning.json")
    (tmp_path / "link").symlink_to(cache)
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path / "link"))
    caches.remove(entry("tuning"))
    assert not file.exists() and (tmp_path / "link").is_symlink() and cache.is_dir()


def test_what_is_being_downloaded_stays(cache):
    whole = put(cache / "mnist" / "train-labels-idx1-ubyte.gz")
    part = put(cache / "mnist" / "train-images-idx3-ubyte.gz.part")
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="being downloaded"):
            caches.remove(entry("mnist"))
    assert whole.exists() and part.exists()
    caches.remove(entry("mnist"))
    assert not whole.exists() and not part.exists()


def test_the_cache_of_the_hub_is_not_ours_alone(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--timm--tf_efficientnet_cc_b0_4e.in1k"
    blob = put(folder / "blobs" / "abc", 77)
    (folder / "snapshots" / "def").mkdir(parents=True)
    (folder / "snapshots" / "def" / "model.safetensors").symlink_to(blob)
    found = entry("tf_efficientnet_cc_b0_4e")
    # The link to the blob is not counted once more.
    assert (found.path, found.size, found.files) == (folder, 77, ())
    with pytest.raises(ValueError, match="hf cache rm model/timm/tf_efficientnet_cc_b0_4e.in1k"):
        caches.remove(found)
    assert blob.exists()
