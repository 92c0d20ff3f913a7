"""What the page shows, as files to download."""

import csv
import io
import json

from condconv_mlx.app.engine import Answer, Card


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
    return _csv(["image", "prediction", *card.labels], rows)


def routing_csv(names: list[str], answer: Answer) -> str:
    """A row for each image, router and expert, with the routing weight. Experts are counted from 1."""
    rows = [
        [name, r.router, " ".join(r.layers), expert + 1, f"{weight:.6f}"]
        for n, name in enumerate(names)
        for r in answer.routing
        for expert, weight in enumerate(r.weights[n])
    ]
    return _csv(["image", "router", "layers", "expert", "weight"], rows)


def _csv(header: list[str], rows: list[list]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()
