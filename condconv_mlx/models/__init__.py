"""The networks, one file an architecture."""

from condconv_mlx.models.registry import create_model, input_shape, list_models

__all__ = ["create_model", "input_shape", "list_models"]
