"""The networks, one file an architecture."""

from condconv_mlx.models.registry import create_model, image_size, list_models

__all__ = ["create_model", "image_size", "list_models"]
