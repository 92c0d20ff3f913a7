"""What the routing of a model does. Takes images, returns NumPy."""

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
from condconv_mlx.explain.usage import Usage, usage

__all__ = [
    "Mixture",
    "Reference",
    "Responses",
    "RouterTrace",
    "Trace",
    "Usage",
    "build_up",
    "experts_of",
    "load_reference",
    "mixed_kernel",
    "mixture",
    "reference",
    "relative_change",
    "responses",
    "save_reference",
    "similarity",
    "trace",
    "usage",
]
