"""What the routing of a model does. Takes images, returns NumPy."""

from condconv_mlx.explain.kernels import experts_of, mixed_kernel
from condconv_mlx.explain.tracing import RouterTrace, Trace, trace
from condconv_mlx.explain.usage import Usage, usage

__all__ = ["RouterTrace", "Trace", "Usage", "experts_of", "mixed_kernel", "trace", "usage"]
