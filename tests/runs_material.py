"""Folders of runs as training leaves them, without the training."""

import json
import os
from pathlib import Path
from typing import Any

import condconv_mlx


def routing(experts: int) -> dict[str, Any]:
    usage = {"entropy": 0.9, "saturated": 0.1, "deviation": 0.05, "experts": [0.5] * experts}
    return {"blocks.1.router": usage, "classifier.router": usage | {"entropy": 0.5}}


def make_run(
    path: Path,
    epochs: int = 3,
    of: float = 3,
    experts: int | None = 4,
    end: str | None = "finished",
    message: str = "",
    tested: float | None = None,
    changed: float = 1e9,
    **training: Any,
) -> Path:
    """A run that has done `epochs` `of` so many, its held-out accuracy rising from 0.5 by a tenth an epoch."""
    path.mkdir(parents=True)
    config = {"name": "condconv_small", "num_classes": 10, "num_experts": experts, "in_channels": 1, "width": 4}
    settings = {"epochs": of, "batch_size": 128, "learning_rate": 0.1, "seed": 0} | training
    (path / "settings.json").write_text(
        json.dumps({"data": "fashion_mnist", "source": "", "config": config, "training": settings, "pretrained": None})
    )
    lines: list[dict[str, Any]] = [{"kind": "start", "step": 0, "steps": int(10 * of), "steps_per_epoch": 10}]
    for epoch in range(1, epochs + 1):
        common = {"loss": 2.0 / epoch, "accuracy": 0.3 + 0.1 * epoch, "seconds": 60.0 * epoch}
        lines.append({"kind": "step", "step": 10 * epoch, "epoch": epoch, **common})
        measured = {"held_out_accuracy": 0.5 + 0.1 * epoch, "routing": routing(experts) if experts else {}}
        lines.append({"kind": "epoch", "step": 10 * epoch, "epoch": epoch, **common, **measured})
    if end:
        lines.append({"kind": "end", "step": 10 * epochs, "reason": end, "message": message})
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "state.safetensors").write_bytes(bytes(1000))
    if epochs:
        model = condconv_mlx.create_model(**config)
        model.info["training"] = {"epoch": epochs, "held_out_accuracy": 0.5 + 0.1 * epochs}
        if tested is not None:
            model.info["training"]["test_accuracy"] = tested
        condconv_mlx.save_model(model, path / "best.safetensors")
    for file in path.iterdir():
        os.utime(file, (changed, changed))
    return path
