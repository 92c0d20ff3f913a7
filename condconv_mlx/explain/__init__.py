"""What the routing of a model does. Takes images, returns NumPy."""

from condconv_mlx.explain.arranging import IMAGE_MAPS, by_similarity, image_map, main_direction
from condconv_mlx.explain.classes import Portrait, Separation, class_means, portraits, separation
from condconv_mlx.explain.interventions import (
    Silencing,
    mean_routing,
    one_hot,
    scaled,
    shuffled,
    silence,
    silencing,
    uniform,
    variants,
)
from condconv_mlx.explain.kernels import experts_of, mixed_kernel
from condconv_mlx.explain.tracing import RouterTrace, Trace, trace
from condconv_mlx.explain.usage import Spread, Usage, expert_states, spread, usage

__all__ = [
    "IMAGE_MAPS",
    "Portrait",
    "RouterTrace",
    "Separation",
    "Silencing",
    "Spread",
    "Trace",
    "Usage",
    "by_similarity",
    "class_means",
    "expert_states",
    "experts_of",
    "image_map",
    "main_direction",
    "mean_routing",
    "mixed_kernel",
    "one_hot",
    "portraits",
    "scaled",
    "separation",
    "shuffled",
    "silence",
    "silencing",
    "spread",
    "trace",
    "uniform",
    "usage",
    "variants",
]
