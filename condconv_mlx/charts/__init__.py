"""NumPy to Plotly figures. Backgrounds are transparent, so a figure fits light and dark pages alike."""

from condconv_mlx.charts.classes import class_bars, percent
from condconv_mlx.charts.comparison import answer_map, class_pairs, cost_bars, distance_by_depth, times
from condconv_mlx.charts.interventions import alternatives, before_after, silencing_chart
from condconv_mlx.charts.kernels import build_up_tiles, fitting_height, kernel_tiles, tile_slices
from condconv_mlx.charts.places import image_map
from condconv_mlx.charts.routing import expert_bars, expert_usage, routing_heatmap
from condconv_mlx.charts.style import expert_color
from condconv_mlx.charts.usage import (
    class_depth,
    class_experts,
    clustered_images,
    usage_by_depth,
    weight_histograms,
)

__all__ = [
    "alternatives",
    "answer_map",
    "before_after",
    "build_up_tiles",
    "class_bars",
    "class_depth",
    "class_experts",
    "class_pairs",
    "clustered_images",
    "cost_bars",
    "distance_by_depth",
    "expert_bars",
    "expert_color",
    "expert_usage",
    "image_map",
    "fitting_height",
    "kernel_tiles",
    "percent",
    "routing_heatmap",
    "silencing_chart",
    "tile_slices",
    "times",
    "usage_by_depth",
    "weight_histograms",
]
