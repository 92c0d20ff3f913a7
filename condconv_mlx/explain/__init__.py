"""What the routing of a model does. Takes images, returns NumPy."""

from condconv_mlx.explain.kernels import experts_of, mixed_kernel
from condconv_mlx.explain.tracing import RouterTrace, Trace, trace

__all__ = ["RouterTrace", "Trace", "experts_of", "mixed_kernel", "trace"]
