"""Untrained weights and odd files for the tests of the app."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
    model: Any = create_model("condconv_small", num_experts=experts, in_channels=channels, width=8)
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
