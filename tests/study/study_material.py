"""Results of runs that nobody made."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from condconv_mlx.study.plan import Recipe, Run, questions, runs
from condconv_mlx.study.runner import DONE

SHAPE = (28, 28, 1)
CLASSES = 10
RECIPE = Recipe()


def planned(names: list[str], seeds: int | None = None) -> list[Run]:
    """The runs of some questions, each once."""
    asked = questions(RECIPE, SHAPE, CLASSES, names)
    every = [run for question in asked for arm in runs(RECIPE, question, SHAPE, seeds).values() for run in arm]
    return list({run.key: run for run in every}.values())


def result(run: Run, accuracy: float, **changed: Any) -> dict[str, Any]:
    """As `carry_out` gives it."""
    experts = run.model["num_experts"]
    usage = {"entropy": 0.8, "saturated": 0.25, "deviation": 0.125, "experts": [0.5] * (experts or 0)}
    return {
        "run": asdict(run),
        "test_accuracy": accuracy,
        "test_loss": 0.4,
        "test_images": 10_000,
        "train_images": run.images,
        "epochs": [{"loss": 1.5, "accuracy": 0.5}, {"loss": 0.9, "accuracy": 0.875}],
        "seconds": 120.0,
        "cpu_seconds": 60.0,
        "multiply_adds": 2_000_000,
        "parameters": 30_000,
        "routing": {name: usage for name in ("blocks.2.router", "classifier.router")} if experts else {},
        "device": "Device(cpu, 0)",
        "finished": "2026-11-24T12:00:00+00:00",
        "version": "0.1.0",
    } | changed


def keep(folder: Path, run: Run, content: dict[str, Any]) -> None:
    """Put a result where the runner would have."""
    path = folder / DONE / f"{run.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
