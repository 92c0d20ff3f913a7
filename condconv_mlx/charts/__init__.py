"""NumPy to Plotly figures. Backgrounds are transparent, so a figure fits light and dark pages alike."""

from condconv_mlx.charts.classes import class_bars, percent
from condconv_mlx.charts.kernels import build_up_tiles, kernel_tiles, tile_slices
from condconv_mlx.charts.routing import expert_bars, expert_usage, routing_heatmap

__all__ = [
    "build_up_tiles",
    "class_bars",
    "expert_bars",
    "expert_usage",
    "kernel_tiles",
    "percent",
    "routing_heatmap",
    "tile_slices",
]
