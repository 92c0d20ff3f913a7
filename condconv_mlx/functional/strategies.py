"""Ways to convolve every example with its own kernel. All give the same result; which is fastest depends on the device.

Each takes x (N, H, W, Cin), kernels (N, O, kh, kw, Cin / groups) and a geometry, all checked, and gives (N, H', W', O)
by operations of MLX alone, so that they can be exported. Their gradients are in `gradients`.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx

from condconv_mlx.functional.geometry import Geometry
from condconv_mlx.functional.patches import (
    cut,
    examples_to_groups,
    groups_to_examples,
    kernels_of_groups,
    patch_matrices,
    patches,
    row_matrices,
    shifts,
    sum_of_products,
)

Strategy = Callable[[mx.array, mx.array, Geometry], mx.array]


def unfold(x: mx.array, kernels: mx.array, geometry: Geometry) -> mx.array:
    """Unfolded patches times kernels, one matrix product an example.

    The kernels may also be (1, O, kh, kw, Cin), one that serves all examples; then it is one product in all.
    """
    if geometry.groups > 1:
        return _of_groups(unfold, x, kernels, geometry)
    m, out, *kernel, _ = kernels.shape
    return _output(
        sum_of_products(patch_matrices(x, kernel, geometry, m), [kernels.reshape(m, out, -1)]), x, kernel, geometry
    )


def rows(x: mx.array, kernels: mx.array, geometry: Geometry) -> mx.array:
    """Patches of one row of the kernel at a time, one product for each row and example, summed.

    The kernels may also be (1, O, kh, kw, Cin).
    """
    if geometry.groups > 1:
        return _of_groups(rows, x, kernels, geometry)
    m, out, *kernel, _ = kernels.shape
    of_rows = [kernels[:, :, i].reshape(m, out, -1) for i in range(kernel[0])]
    return _output(sum_of_products(row_matrices(x, kernel, geometry), of_rows), x, kernel, geometry)


def _of_groups(strategy: Strategy, x: mx.array, kernels: mx.array, geometry: Geometry) -> mx.array:
    groups = geometry.groups
    output = strategy(groups_to_examples(x, groups), kernels_of_groups(kernels, groups), geometry.without_groups())
    return examples_to_groups(output, groups)


def _output(product: mx.array, x: mx.array, kernel: Sequence[int], geometry: Geometry) -> mx.array:
    return product.reshape(x.shape[0], *geometry.output_size(x.shape[1:3], kernel), product.shape[-1])


def taps(x: mx.array, kernels: mx.array, geometry: Geometry) -> mx.array:
    """Depthwise: what every tap sees times its weights, and then the sum over the taps; two passes in all.

    In between there are as many numbers as the output has, times the taps.
    """
    _check_depthwise("taps", x, kernels, geometry)
    n, channels, *kernel, _ = kernels.shape
    # Flattened first, so that the weights of a tap lie side by side.
    weights = kernels.transpose(0, 2, 3, 1, 4).reshape(-1).reshape(n, 1, 1, *kernel, channels)
    return (patches(x, kernel, geometry) * weights).sum(axis=(3, 4))


def shift(x: mx.array, kernels: mx.array, geometry: Geometry) -> mx.array:
    """Depthwise: the image shifted by each tap, times the weights of that tap, summed one after the other."""
    _check_depthwise("shift", x, kernels, geometry)
    n, channels, *kernel, _ = kernels.shape
    # Flattened first, so that the weights of a tap lie side by side.
    weights = kernels.transpose(2, 3, 0, 1, 4).reshape(-1).reshape(*kernel, n, channels)
    output = None
    for i, j, shifted in shifts(x, kernel, geometry):
        product = shifted * weights[i, j].reshape(n, *[1] * (shifted.ndim - 2), channels)
        output = product if output is None else output + product
    assert output is not None
    return cut(output, *geometry.output_size(x.shape[1:3], kernel))


def _check_depthwise(name: str, x: mx.array, kernels: mx.array, geometry: Geometry) -> None:
    if not geometry.is_depthwise(x.shape[3], kernels.shape[1]):
        raise ValueError(f"[{name}] is for depthwise convolutions (groups = Cin = O), got groups = {geometry.groups}.")


def loop(x: mx.array, kernels: mx.array, geometry: Geometry) -> mx.array:
    """One `mx.conv2d` an example; one kernel (1, O, kh, kw, Cin / groups) may serve all."""
    return mx.concatenate([_conv(x[i : i + 1], kernels[i % len(kernels)], geometry) for i in range(x.shape[0])])


def fold(x: mx.array, kernels: mx.array, geometry: Geometry) -> mx.array:
    """The examples folded into groups of one grouped convolution. Very slow on a CPU, where MLX has a naive loop."""
    n, height, width, channels = x.shape
    out = kernels.shape[1]
    folded = x.transpose(1, 2, 0, 3).reshape(1, height, width, n * channels)
    output = _conv(folded, kernels.reshape(n * out, *kernels.shape[2:]), geometry._replace(groups=n * geometry.groups))
    rows, columns = output.shape[1:3]
    return output.reshape(rows, columns, n, out).transpose(2, 0, 1, 3)


def _conv(x: mx.array, kernel: mx.array, geometry: Geometry) -> mx.array:
    stride, ((top, bottom), (left, right)), dilation, groups = geometry
    return mx.conv_general(x, kernel, stride, ([top, left], [bottom, right]), kernel_dilation=dilation, groups=groups)


STRATEGIES: dict[str, Strategy] = {
    "unfold": unfold,
    "rows": rows,
    "taps": taps,
    "shift": shift,
    "loop": loop,
    "fold": fold,
}
