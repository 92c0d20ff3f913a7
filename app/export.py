"""What the page shows, as files to download."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from condconv_mlx.app.engine import Answer
from condconv_mlx.app.models import Card


def to_json(card: Card, names: list[str], answer: Answer) -> str:
    """Every probability and routing weight of every image, as an object with the model and a list of images."""
    images = [
        {
            "image": name,
            "probabilities": dict(zip(card.labels, map(float, answer.probabilities[n]), strict=True)),
            "routing": [
                {"router": r.router, "layers": list(r.layers), "weights": [float(w) for w in r.weights[n]]}
                for r in answer.routing
            ],
        }
        for n, name in enumerate(names)
    ]
    return json.dumps({"model": card.name, "images": images}, indent=2, ensure_ascii=False)


def predictions_csv(card: Card, names: list[str], answer: Answer) -> str:
    """A row for each image: the likeliest class, and the probability of every class."""
    rows = [
        [name, card.labels[int(row.argmax())], *[f"{value:.6f}" for value in row]]
        for name, row in zip(names, answer.probabilities, strict=True)
    ]
    return table_csv(["image", "prediction", *card.labels], rows)


def routing_csv(names: list[str], answer: Answer) -> str:
    """A row for each image, router and expert, with the routing weight. Experts are counted from 1."""
    rows = [
        [name, r.router, " ".join(r.layers), expert + 1, f"{weight:.6f}"]
        for n, name in enumerate(names)
        for r in answer.routing
        for expert, weight in enumerate(r.weights[n])
    ]
    return table_csv(["image", "router", "layers", "expert", "weight"], rows)


def table_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as the text of a CSV file; of a number six digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float | np.floating) else cell for cell in row] for row in rows)
    return file.getvalue()
