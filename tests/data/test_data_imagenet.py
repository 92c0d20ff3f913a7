"""Names of the classes of ImageNet."""

import builtins
import io
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

from condconv_mlx.data.imagenet import imagenet_labels

FOLDER = files("condconv_mlx.data")
LINES = FOLDER.joinpath("imagenet_labels.txt").read_text(encoding="utf-8").splitlines()


def test_a_thousand_names_each_unlike_the_others() -> None:
    labels = imagenet_labels()
    assert len(labels) == 1000
    # In lower case, too: a Cardigan is a dog.
    assert len({label.lower() for label in labels}) == 1000
    assert all(label == label.strip() and label for label in labels)


@pytest.mark.parametrize(
    ("index", "label"),
    [
        (0, "tench"),
        (134, "crane (bird)"),
        (207, "golden retriever"),
        (264, "Cardigan Welsh corgi"),
        (281, "tabby"),
        (474, "cardigan"),
        (517, "crane (machine)"),
        (638, "maillot"),
        (639, "maillot, tank suit"),
        (999, "toilet tissue"),
    ],
)
def test_known_classes(index: int, label: str) -> None:
    assert imagenet_labels()[index] == label


def test_the_order_is_that_of_the_wordnet_ids() -> None:
    ids = [line.split(" ", 1)[0] for line in LINES if not line.startswith("#")]
    assert ids == sorted(set(ids)) and len(ids) == 1000
    assert all(len(id) == 9 and id[0] == "n" and id[1:].isdecimal() for id in ids)


def test_timm_has_the_same_order() -> None:
    # Found, not imported: that would load torch.
    timm = find_spec("timm")
    if timm is None or timm.origin is None:
        pytest.skip("timm is not here")
    known = (Path(timm.origin).parent / "data/_info/imagenet_synsets.txt").read_text().split()
    assert [line.split(" ", 1)[0] for line in LINES if not line.startswith("#")] == known


def test_the_file_names_source_and_licence() -> None:
    header = "\n".join(line for line in LINES if line.startswith("#"))
    assert "ILSVRC-2012" in header and "WordNet 3.0, Princeton University" in header
    assert "imagenet_labels.LICENSE" in header
    notice = FOLDER.joinpath("imagenet_labels.LICENSE").read_text(encoding="utf-8")
    # The licence wants both on every copy.
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice
    assert 'PROVIDED "AS IS"' in notice


def test_the_file_is_read_once_and_the_list_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = imagenet_labels()
    labels[0] = "mine"

    def refuse(*arguments: object, **options: object) -> object:
        raise AssertionError("read again")

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    assert imagenet_labels()[0] == "tench"
