"""CondConv for Apple Silicon, in MLX.

Names are imported when they are first used: `condconv_mlx.cpu.tune_process` has to run before MLX is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from condconv_mlx._backend import check

if TYPE_CHECKING:
    from condconv_mlx.checkpoint import list_weights, load_model, save_model
    from condconv_mlx.layers import CondConv1d, CondConv2d, CondLinear, Router
    from condconv_mlx.models import create_model, list_models

__all__ = [
    "CondConv1d",
    "CondConv2d",
    "CondLinear",
    "Router",
    "create_model",
    "list_models",
    "list_weights",
    "load_model",
    "save_model",
]

_HOME = {
    "CondConv1d": "layers",
    "CondConv2d": "layers",
    "CondLinear": "layers",
    "Router": "layers",
    "create_model": "models",
    "list_models": "models",
    "list_weights": "checkpoint",
    "load_model": "checkpoint",
    "save_model": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check()
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
