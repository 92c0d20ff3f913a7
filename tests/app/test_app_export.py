"""Downloads hold what the page shows."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from app_material import open_app

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


@pytest.mark.parametrize(
    "page, address",
    [
        ("", {}),
        ("kernels", {}),
        ("what-if", {"what": "0.uniform"}),
        *[("usage", {"section": section}) for section in ("layers", "depth", "experts", "weights", "images", "map")],
        ("compare", {}),
        ("compare", {"compare": "pictures"}),
        ("compare", {"against": "condconv_small_fashion_mnist"}),
    ],
)
def test_every_chart_can_be_had_as_numbers(weights: Path, page: str, address: dict[str, str]) -> None:
    app = open_app(page, **address)
    shown = {chart.key for chart in app.get("plotly_chart")}
    offered = {button.key.removeprefix("csv ") for button in app.get("download_button") if button.key}
    assert shown and shown <= offered
