"""Downloads hold what the page shows."""

import csv
import io
import json

import numpy as np
import pytest

from condconv_mlx.app import export
from condconv_mlx.app.engine import Answer, Routing
from condconv_mlx.app.models import Card

CARD = Card("net", "condconv_small", "pets", ("cat", "dog"), 32, 3, 2, None, "test images")
NAMES = ['a "cat", maybe', "b"]
ANSWER = Answer(
    seen=np.zeros((2, 32, 32, 3), np.uint8),
    probabilities=np.array([[0.75, 0.25], [0.1, 0.9]], np.float32),
    routing=(Routing("block.router", ("block.a", "block.b"), np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)),),
)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_predictions() -> None:
    header, first, second = rows(export.predictions_csv(CARD, NAMES, ANSWER))
    assert header == ["image", "prediction", "cat", "dog"]
    assert first == [NAMES[0], "cat", "0.750000", "0.250000"]
    assert second[1] == "dog"


def test_routing_counts_experts_from_one() -> None:
    header, *lines = rows(export.routing_csv(NAMES, ANSWER))
    assert header == ["image", "router", "layers", "expert", "weight"]
    assert len(lines) == 4
    assert lines[3] == ["b", "block.router", "block.a block.b", "2", "0.400000"]


def test_json_holds_both() -> None:
    read = json.loads(export.to_json(CARD, NAMES, ANSWER))
    assert read["model"] == "net"
    assert read["images"][0]["image"] == NAMES[0]
    assert read["images"][1]["probabilities"]["dog"] == pytest.approx(0.9)
    assert read["images"][1]["routing"][0]["weights"] == pytest.approx([0.3, 0.4])
