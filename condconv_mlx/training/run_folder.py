"""A training run on disk: a folder with all that is needed to go on.

settings.json        the model, the data and the training settings
state.safetensors    float32 weights, optimiser state and step, as of the last save
log.jsonl            one line an epoch: loss, accuracies, seconds, memory, and how each router uses its experts
best.safetensors     the best model so far, for inference
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx.checkpoint import CheckpointError, assign, named_arrays, read_arrays, write_arrays
from condconv_mlx.files import replacing

STATE = "state.safetensors"


def save_state(folder: Path, model: nn.Module, optimizer: optim.Optimizer, progress: dict[str, Any]) -> None:
    """Write weights, optimiser state and `progress` (plain JSON), atomically."""
    optimizer_arrays: Any = tree_flatten(optimizer.state)
    arrays = {f"model.{name}": value for name, value in named_arrays(model).items()}
    arrays |= {f"optimizer.{name}": value for name, value in optimizer_arrays}
    write_arrays(folder / STATE, arrays, {"progress": json.dumps(progress)})


def load_state(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> dict[str, Any]:
    """Put a saved state back; returns `progress`. `CheckpointError` if it is missing, damaged or of another model."""
    arrays, metadata = read_arrays(folder / STATE)
    try:
        progress = json.loads(metadata["progress"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder / STATE} is no training state: {error}") from error
    assign(model, _under("model.", arrays), str(folder / STATE))
    optimizer.state = tree_unflatten(list(_under("optimizer.", arrays).items()))
    return progress


def _under(prefix: str, arrays: dict[str, mx.array]) -> dict[str, mx.array]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def write_json(path: Path, content: Any) -> None:
    """Write plain JSON under a temporary name, and rename it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Plain JSON; `CheckpointError` if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
