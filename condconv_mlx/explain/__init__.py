"""What the routing of a model does. Takes images, returns NumPy."""

from condconv_mlx.explain.arranging import IMAGE_MAPS, by_similarity, image_map, main_direction
from condconv_mlx.explain.classes import Portrait, Separation, class_means, portraits, separation
from condconv_mlx.explain.comparing import (
    Agreement,
    agreement,
    in_order_of,
    mean_routing_distance,
    routing_distance,
)
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
from condconv_mlx.explain.timing import in_turns, passes
from condconv_mlx.explain.tracing import RouterTrace, Trace, trace
from condconv_mlx.explain.usage import Spread, Usage, expert_states, spread, usage

__all__ = [
    "IMAGE_MAPS",
    "Agreement",
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
    "agreement",
    "build_up",
    "by_similarity",
    "class_means",
    "expert_states",
    "experts_of",
    "image_map",
    "in_order_of",
    "in_turns",
    "load_reference",
    "main_direction",
    "mean_routing",
    "mean_routing_distance",
    "mixed_kernel",
    "mixture",
    "one_hot",
    "passes",
    "portraits",
    "reference",
    "relative_change",
    "responses",
    "routing_distance",
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
