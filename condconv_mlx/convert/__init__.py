"""Weights and models from elsewhere: timm's networks, and any MLX model with its layers exchanged."""

from condconv_mlx.convert.condconvert import condconvert
from condconv_mlx.convert.exporting import export_model
from condconv_mlx.convert.fold import fold
from condconv_mlx.convert.from_timm import load_any, load_timm
from condconv_mlx.convert.hub import HUB_MODELS, HubError

__all__ = ["HUB_MODELS", "HubError", "condconvert", "export_model", "fold", "load_any", "load_timm"]
