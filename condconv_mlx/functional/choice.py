"""What `strategy="auto"` means: what was measured on this device for exactly this case, else the default."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import mlx.core as mx

from condconv_mlx.functional import tuned
from condconv_mlx.functional.defaults import Case, default
from condconv_mlx.functional.geometry import Geometry

_recorded: ContextVar[list[Case] | None] = ContextVar("recorded", default=None)


def choose(x: mx.array, kernel: tuple[int, ...], experts: int | None, geometry: Geometry, training: bool) -> str:
    """The strategy for a convolution, from the shapes alone. No file is opened after the first call on a device.

    Args:
        x: (N, H, W, Cin).
        kernel: (O, kh, kw, Cin / groups), the shape of one kernel.
        experts: how many kernels are mixed, or None where each example brings its own.
        geometry: how the kernel moves over the image.
        training: whether our own gradients are wanted.
    """
    case = Case(x.shape, kernel, experts, geometry, str(x.dtype).removeprefix("mlx.core."), training)
    recorded = _recorded.get()
    if recorded is not None:
        recorded.append(case)
    return tuned.strategies(str(mx.default_device())).get(case) or default(case, backend())


@contextmanager
def recording() -> Iterator[list[Case]]:
    """Every case that reaches `choose` in this block, in order."""
    cases: list[Case] = []
    token = _recorded.set(cases)
    try:
        yield cases
    finally:
        _recorded.reset(token)


def backend() -> str:
    """What computes on the default device: `"cpu"`, `"metal"` or `"cuda"`."""
    if mx.default_device() == mx.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"
