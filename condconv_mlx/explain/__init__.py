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
    silenced,
    silencing,
    silencing_overrides,
    uniform,
    variants,
)
from condconv_mlx.explain.kernels import (
    Mixture,
    build_up,
    experts_of,
    mixed_kernel,
    mixture,
    relative_change,
    similarity,
)
from condconv_mlx.explain.reference import Reference, load_reference, reference, save_reference
from condconv_mlx.explain.responses import Responses, responses
from condconv_mlx.explain.tracing import RouterTrace, Trace, trace
from condconv_mlx.explain.usage import Spread, Usage, expert_states, spread, usage

__all__ = [
    "IMAGE_MAPS",
    "Mixture",
    "Portrait",
    "Reference",
    "Responses",
    "RouterTrace",
    "Separation",
    "Silencing",
    "Spread",
    "Trace",
    "Usage",
    "build_up",
    "by_similarity",
    "class_means",
    "expert_states",
    "experts_of",
    "image_map",
    "load_reference",
    "main_direction",
    "mean_routing",
    "mixed_kernel",
    "mixture",
    "one_hot",
    "portraits",
    "reference",
    "relative_change",
    "responses",
    "save_reference",
    "scaled",
    "separation",
    "shuffled",
    "silence",
    "silenced",
    "silencing",
    "silencing_overrides",
    "similarity",
    "spread",
    "trace",
    "uniform",
    "usage",
    "variants",
]
