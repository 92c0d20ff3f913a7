"""A model as one file of MLX operations, which runs without the Python that made it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.files import replacing
from condconv_mlx.functional.streams import in_one_piece


def export_model(
    model: nn.Module,
    path: str | Path,
    input_shape: Sequence[int],
    batch_sizes: Sequence[int] = (1,),
    dtype: mx.Dtype = mx.float32,
) -> None:
    """Write a model for inference, conditional or folded, to load with `mx.import_function` in Python, C++ or Swift.

    The file holds the operations for each batch size, and the arrays once. MLX can also leave the batch size open
    (`shapeless=True`), but where a network pools or reshapes, 0.32.4 then fails for other sizes, or computes garbage
    without a word. What strategy a layer takes is decided here, for the device that exports.

    Args:
        model: a module that takes one array and gives one; exported in evaluation mode, and put back.
        path: a name ending in `.mlxfn`. Written under a temporary name, checked against the model, then renamed.
        input_shape: of one example, without the batch: (H, W, C) for images.
        batch_sizes: the batch sizes N that the exported function takes, an input (N, *input_shape) each.
        dtype: of the input, a floating one.

    Raises:
        ValueError: if the name has another ending, a size is wrong, or the model does not take such an input.
        RuntimeError: if what MLX wrote does not compute what the model does.
    """
    path = Path(path)
    if path.suffix != ".mlxfn":
        raise ValueError(f"[export_model] the name of the file must end in .mlxfn, got {path.name}.")
    sizes = [*input_shape, *batch_sizes]
    if not batch_sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            "[export_model] input_shape and batch_sizes must be positive integers, at least one batch size, got "
            f"{input_shape!r} and {batch_sizes!r}."
        )
    # MLX writes an array that is still lazy as the operations that make it, random numbers included, and of a view,
    # such as a transposed kernel, what lies in memory behind it.
    mx.eval(model.apply(mx.contiguous, lambda module, key, value: isinstance(value, dict | list | mx.array)))
    examples = [mx.random.normal((n, *input_shape), dtype=dtype, key=mx.random.key(n)) for n in batch_sizes]
    was_training = model.training
    try:
        model.eval()
        with replacing(path) as temporary:
            with in_one_piece(), mx.exporter(str(temporary), lambda x: model(x)) as exporter:
                for x in examples:
                    exporter(x)
            loaded: Any = mx.import_function(str(temporary))
            for x in examples:
                _check_same(loaded(x)[0], model(x))
    finally:
        model.train(was_training)


def _check_same(exported: mx.array, wanted: mx.array) -> None:
    """`RuntimeError` unless two outputs are the same but for rounding."""
    error, scale = float(mx.abs(exported - wanted).max()), float(mx.abs(wanted).max())
    if not error <= 1e-3 * scale:  # nor if it is NaN
        raise RuntimeError(
            f"[export_model] the exported function is off by {error:.2g}, where the model's output reaches "
            f"{scale:.2g}. Does the model use arrays that it does not hold, and that are views?"
        )
