"""Untrained weights, odd files, and the app as Streamlit's own harness runs it."""

import base64
import io
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import condconv_mlx.app

MAIN = Path(condconv_mlx.app.__path__[0]) / "main.py"

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
EXPERTS = 4


def save_untrained(
    folder: Path,
    name: str,
    dataset: str = "cifar10",
    labels: list[str] = CIFAR10,
    size: int = 32,
    channels: int = 3,
    experts: int | None = EXPERTS,
    seed: int = 0,
    **preprocessing: Any,
) -> Path:
    """A network with random weights, as a file."""
    import mlx.core as mx

    from condconv_mlx import create_model, save_model

    mx.random.seed(seed)
    model: Any = create_model(
        "condconv_small", num_classes=len(labels), num_experts=experts, in_channels=channels, width=8
    )
    model.info.update(
        dataset=dataset,
        labels=labels,
        input={
            "size": size,
            "channels": channels,
            "mean": [0.47] * channels,
            "std": [0.25] * channels,
            **preprocessing,
        },
        training={"held_out_accuracy": 0.9012},
    )
    save_model(model, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def png(pixels: np.ndarray) -> bytes:
    """An image file of uint8 pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(seed: int, side: int = 48) -> bytes:
    """A picture that no other seed gives."""
    return png(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A small PNG file of very many pixels, all of one bit."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed, row = zlib.compressobj(1), b"\0" * (width // 8 + 1)
    rows = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def open_app(page: str = "", **address: str) -> AppTest:
    """The app as it is after its first run, at the page of that path, with these behind it."""
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    for key, value in address.items():
        app.query_params[key] = value
    # The harness can only name pages that are files.
    app._page_hash = calc_hash(page)
    return app.run()


def go_to(app: AppTest, page: str) -> AppTest:
    """Another page, as by a click on its name, which clears the address."""
    app.query_params.clear()
    app._page_hash = calc_hash(page)
    return app.run()


def figure(app: AppTest, key: str) -> go.Figure | None:
    """The chart of that key on the page."""
    for element in app.get("plotly_chart"):
        if element.key == key:
            return go.Figure(json.loads(element.proto.spec))
    return None


def numbers(array: Any) -> np.ndarray:
    """An array of a chart, which Plotly writes as base64."""
    if isinstance(array, dict):
        shape = [int(n) for n in str(array.get("shape", "-1")).split(",")]
        return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"]).reshape(shape)
    return np.array(array, dtype=float)


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    """Files brought by "Add"."""
    app.session_state["adding"] = True
    app.run()
    app.file_uploader[-1].set_value([(name, data, "image/png") for name, data in files])
    return app.run()


def texts(elements: Any) -> str:
    """What is read on the page: without the backslashes that keep Markdown from acting."""
    return re.sub(r"\\(.)", r"\1", "\n".join(element.value for element in elements))
