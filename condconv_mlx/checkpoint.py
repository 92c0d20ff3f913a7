"""A model as one safetensors file: weights, and how to build the network that they belong to."""

import json
import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx.files import replacing
from condconv_mlx.models import create_model

_KEY = "condconv_mlx"


class CheckpointError(ValueError):
    """A file of weights that cannot be used; the message says why."""


def weights_folder() -> Path:
    """Where the shipped weights lie: in the package, or beside it in a checkout. `CONDCONV_MLX_WEIGHTS` overrides."""
    if override := os.environ.get("CONDCONV_MLX_WEIGHTS"):
        return Path(override)
    installed = Path(__file__).parent / "weights"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "weights"


def list_weights() -> list[str]:
    """Names of the shipped weights, which `load_model` takes."""
    return sorted(path.stem for path in weights_folder().glob("*.safetensors") if not path.name.startswith("."))


def save_model(model: nn.Module, path: str | Path, dtype: mx.Dtype = mx.float16) -> None:
    """Write a model from `create_model` for inference.

    Args:
        model: the network; its `config` and `info` go into the metadata.
        path: a name ending in `.safetensors`. Written under a temporary name, then renamed.
        dtype: of kernels and matrices. Vectors (biases, batch normalisation) stay float32.

    Raises:
        ValueError: if the model has no `config`, or the name another ending.
    """
    if not getattr(model, "config", None):
        raise ValueError("[save_model] only a model made by create_model or load_model can be saved.")
    arrays = {
        name: value.astype(dtype if value.ndim > 1 else mx.float32) for name, value in named_arrays(model).items()
    }
    write_arrays(path, arrays, {_KEY: json.dumps({"format": 1, "config": model.config, "info": model.info})})


def load_model(name_or_path: str | Path) -> nn.Module:
    """A saved model, in float32 and evaluation mode.

    Args:
        name_or_path: a name in `list_weights()`, or the path of a safetensors file.

    Raises:
        CheckpointError: if there is no such file, or it is damaged, or its arrays do not fit the network.
    """
    path = Path(name_or_path)
    if str(name_or_path) in list_weights():
        path = weights_folder() / f"{name_or_path}.safetensors"
    arrays, metadata = read_arrays(path)
    if _KEY not in metadata:
        raise CheckpointError(f"{path} is not a condconv-mlx model: its metadata has no '{_KEY}' entry.")
    try:
        described = json.loads(metadata[_KEY])
        config, info = dict(described["config"]), dict(described["info"])
        model = create_model(**config)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} describes a network that this version cannot build: {error}") from error
    assign(model, {name: value.astype(mx.float32) for name, value in arrays.items()}, str(path))
    model.info.update(info)
    return model.eval()


def named_arrays(model: nn.Module) -> dict[str, mx.array]:
    """All arrays of a model by their dotted names."""
    flat: Any = tree_flatten(model.parameters())
    return dict(flat)


def assign(model: nn.Module, arrays: dict[str, mx.array], source: str) -> None:
    """Put arrays into a model by name; `CheckpointError` naming the first that is missing, left over or misshapen."""
    wanted = named_arrays(model)
    if missing := sorted(wanted.keys() - arrays.keys()):
        raise CheckpointError(f"{source} lacks {len(missing)} arrays of the network, the first is {missing[0]}.")
    if extra := sorted(arrays.keys() - wanted.keys()):
        raise CheckpointError(f"{source} has {len(extra)} arrays that the network lacks, the first is {extra[0]}.")
    for name, value in arrays.items():
        if value.shape != wanted[name].shape:
            raise CheckpointError(f"{source}: {name} has shape {value.shape}, the network wants {wanted[name].shape}.")
    # MLX 0.32.4 exports a view, such as a transposed kernel, as what lies in memory behind it.
    model.update(tree_unflatten([(name, mx.contiguous(value)) for name, value in arrays.items()]))
    mx.eval(model.parameters())


def write_arrays(path: str | Path, arrays: dict[str, mx.array], metadata: dict[str, str]) -> None:
    """Write a safetensors file under a temporary name in the same folder, and rename it."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"the name of a weights file must end in .safetensors, got {path.name}")
    with replacing(path) as temporary:
        mx.save_safetensors(str(temporary), arrays, metadata)


def read_arrays(path: str | Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """Arrays and metadata of a safetensors file; `CheckpointError` if it is missing or damaged."""
    path = Path(path)
    metadata = read_metadata(path)
    try:
        arrays: Any = mx.load(str(path), format="safetensors")
        # Loading is lazy; a truncated file shows only now.
        mx.eval(arrays)
    except Exception as error:  # MLX raises several kinds, RuntimeError among them
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
    return arrays, metadata


def is_ours(path: str | Path) -> bool:
    """Whether a safetensors file was written by `save_model`. `CheckpointError` if it is missing or damaged."""
    return _KEY in read_metadata(path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; `CheckpointError` unless the file is there and as long as its header says.

    Eight bytes give the length of the header, which is JSON; the arrays follow one another to the end of the file.
    MLX does not look at whether it ends there.
    """
    path = Path(path)
    if not path.is_file():
        known = ", ".join(list_weights()) or "none"
        raise CheckpointError(f"There is no file {path}. Shipped weights: {known}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith((b"PK\x03\x04", b"\x80")) and path.suffix != ".safetensors":
            raise CheckpointError(
                f"{path} is a pickle of PyTorch's, which can run any program when it is read, and is not opened here. "
                "In PyTorch, write the state_dict with safetensors.torch.save_file(…) and bring that file."
            )
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            raise CheckpointError(f"{path} is damaged, cut short, or no safetensors file.")
        try:
            header = json.loads(file.read(length))
            metadata = {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}
            ends = [array["data_offsets"][1] for name, array in header.items() if name != "__metadata__"]
            wanted = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged or no safetensors file: its header cannot be read.") from error
    if size != wanted:
        what = "cut short" if size < wanted else "damaged: bytes follow that belong to nothing"
        raise CheckpointError(f"{path} is {what}. It has {size:,} bytes and should have {wanted:,}.")
    return metadata
