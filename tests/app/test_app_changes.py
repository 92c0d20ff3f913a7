"""Changes to the routing as texts, and what they stand for."""

import numpy as np
import pytest

from condconv_mlx.app import changes
from condconv_mlx.explain import shuffled

OWN = np.array([0.8, 0.1, 0.3], np.float32)
USUAL = np.array([0.5, 0.15, 0.4])
OTHERS = {"b-2": np.array([0.2, 0.2, 0.5], np.float32)}


def resolve(change: str) -> np.ndarray:
    return changes.resolve(change, OWN, lambda: USUAL, OTHERS.get)


@pytest.mark.parametrize(
    "change, wanted, kind, detail",
    [
        ("uniform", [0.4, 0.4, 0.4], "uniform", ""),
        ("one2", [0, 1.2, 0], "one", "2"),
        ("shuffled3", shuffled(OWN, 3), "shuffled", "3"),
        ("usual", [0.5, 0.15, 0.4], "usual", ""),
        ("of-b-2", [0.2, 0.2, 0.5], "of", "b-2"),
        ("of-gone", [np.nan] * 3, "of", "gone"),
        ("w_0.25_-_0", [0.25, np.nan, 0], "hand", ""),
        ("", [np.nan] * 3, "own", ""),
    ],
)
def test_what_a_change_stands_for(change: str, wanted: list[float], kind: str, detail: str) -> None:
    np.testing.assert_allclose(resolve(change), wanted, rtol=1e-6)
    assert changes.kind(change) == kind and changes.detail(change) == detail
    if change:
        assert changes.parse(f"1.{change}", [5, 3]) == {1: change}


def test_a_network_survives_its_address() -> None:
    some = {2: "w_0.5_-_1", 0: "uniform"}
    assert changes.join(some) == "0.uniform~2.w_0.5_-_1"
    assert changes.parse(changes.join(some), [4, 3, 3]) == some
    assert changes.join({}) is None and changes.parse(None, [3]) == {}


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "0.",
        "7.uniform",
        "-1.uniform",
        "0.one0",
        "0.one4",
        "0.w_0.5",
        "0.w_0.5_2_0",
        "0.w_._1_1",
        "0.w_-_-1_0",
    ]
    + ["0.shuffled", "0.of-../x", "0.uniform2", "0.w_nan_0_0", "²"],
)
def test_nonsense_is_left_out(text: str) -> None:
    assert changes.parse(f"{text}~1.usual", [3, 3]) == {1: "usual"}


def test_weights_by_hand() -> None:
    given = np.array([0.123456, np.nan, 1e-9], np.float32)
    assert changes.by_hand(given) == "w_0.1235_-_0"
    np.testing.assert_allclose(resolve("w_0.1235_-_0"), [0.1235, np.nan, 0])
    assert changes.by_hand(np.full(3, np.nan)) == ""
