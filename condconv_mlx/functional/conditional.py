"""The conditionally parameterized convolution: routing weights and experts to an output."""

from collections.abc import Sequence

import mlx.core as mx

from condconv_mlx.functional.choice import choose
from condconv_mlx.functional.defaults import OUTPUTS
from condconv_mlx.functional.geometry import Geometry, Padding
from condconv_mlx.functional.gradients import mixed_with_gradients
from condconv_mlx.functional.mixing import mix_experts
from condconv_mlx.functional.per_example import check_arguments, conv2d_per_example
from condconv_mlx.functional.splitting import convolve_mixed
from condconv_mlx.functional.static import conv2d
from condconv_mlx.functional.strategies import STRATEGIES


def cond_conv2d(
    x: mx.array,
    routing_weights: mx.array,
    experts: mx.array,
    bias: mx.array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    strategy: str = "auto",
    exportable: bool = False,
) -> mx.array:
    """Convolve every example with its own mixture of experts (paper, section 3).

    Args:
        x: (N, H, W, Cin).
        routing_weights: (N, E).
        experts: (E, O, kh, kw, Cin / groups).
        bias: (E, O), mixed like the experts, or None.
        stride, padding, dilation, groups, exportable: as in `conv2d_per_example`.
        strategy: how to compute it. `"outputs"` convolves with every expert and mixes what comes out, which the paper
            found faster in training with few experts; it is E convolutions. All others mix the kernels and convolve
            once; they are those of `conv2d_per_example`. The result is the same.

    Returns:
        (N, H', W', O): (sum over e of routing_weights[:, e] * experts[e]) * x, plus the mixed bias.

    Raises:
        ValueError: for shapes, dtypes or arguments that do not fit, with what was given and what is wanted.
    """
    if x.ndim != 4:
        raise ValueError(f"[cond_conv2d] x must be (N, H, W, Cin), got shape {x.shape}.")
    if experts.ndim != 5:
        raise ValueError(f"[cond_conv2d] experts must be (E, O, kh, kw, Cin / groups), got shape {experts.shape}.")
    wanted = (x.shape[0], experts.shape[0])
    if routing_weights.shape != wanted:
        raise ValueError(f"[cond_conv2d] routing_weights must be (N, E) = {wanted}, got shape {routing_weights.shape}.")
    if bias is not None and bias.shape != experts.shape[:2]:
        raise ValueError(f"[cond_conv2d] bias must be (E, O) = {experts.shape[:2]}, got shape {bias.shape}.")
    geometry, _ = check_arguments("cond_conv2d", x, experts, stride, padding, dilation, groups)
    if strategy == "auto":
        strategy = choose(x, experts.shape[1:], experts.shape[0], geometry, training=not exportable)
    if strategy == OUTPUTS:
        return _mix_outputs(x, routing_weights.astype(x.dtype), experts, bias, geometry, exportable)
    mixed_bias = None if bias is None else mix_experts(routing_weights, bias)
    if strategy in STRATEGIES and len(x):
        if exportable:
            output = convolve_mixed(strategy, x, routing_weights, experts, geometry)
        else:
            output = mixed_with_gradients(strategy, geometry)(x, routing_weights, experts)
        return output if mixed_bias is None else output + mixed_bias[:, None, None]
    kernels = mix_experts(routing_weights, experts)
    return conv2d_per_example(
        x,
        kernels,
        mixed_bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        strategy=strategy,
        exportable=exportable,
    )


def _mix_outputs(
    x: mx.array,
    routing_weights: mx.array,
    experts: mx.array,
    bias: mx.array | None,
    geometry: Geometry,
    exportable: bool,
) -> mx.array:
    """One convolution with all experts, side by side within each group, and their outputs weighed and summed."""
    e, out, *kernel = experts.shape
    stride, padding, dilation, groups = geometry
    together = experts.reshape(e, groups, out // groups, *kernel).swapaxes(0, 1).reshape(e * out, *kernel)
    outputs = conv2d(
        x, together, stride=stride, padding=padding, dilation=dilation, groups=groups, exportable=exportable
    )
    outputs = outputs.reshape(*outputs.shape[:3], groups, e, out // groups)
    mixed = (outputs * routing_weights[:, None, None, None, :, None]).sum(axis=4)
    mixed = mixed.reshape(*mixed.shape[:3], out)
    return mixed if bias is None else mixed + mix_experts(routing_weights, bias)[:, None, None]
