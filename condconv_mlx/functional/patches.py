"""Views and rearrangements of images and kernels that the strategies and gradients share."""

from collections.abc import Iterator, Sequence

import mlx.core as mx

from condconv_mlx.functional.geometry import Geometry, PaddingPairs, Pair, output_size

_NO_PADDING = ((0, 0), (0, 0))


def pad(x: mx.array, padding: PaddingPairs) -> mx.array:
    """x (N, H, W, C) with zeros around; a negative padding takes rows or columns away."""
    (top, bottom), (left, right) = padding
    if min(top, bottom, left, right) < 0:
        height, width = x.shape[1:3]
        x = x[:, max(-top, 0) : height + min(bottom, 0), max(-left, 0) : width + min(right, 0)]
        if x.shape[3] == 1:
            # Flattened, what was cut out of one channel is still a view, with gaps, which `mx.as_strided` refuses.
            x = x * 1
    ahead, behind = (max(top, 0), max(left, 0)), (max(bottom, 0), max(right, 0))
    if not any(ahead + behind):
        return x
    return mx.pad(x, [(0, 0), (ahead[0], behind[0]), (ahead[1], behind[1]), (0, 0)])


def patches(x: mx.array, kernel: Sequence[int], geometry: Geometry) -> mx.array:
    """x (N, H, W, C) -> (N, H', W', kh, kw, C): what the kernel sees at each position. A view, until it is used."""
    stride, padding, dilation, _ = geometry
    x = pad(x, padding)
    n, height, width, channels = x.shape
    rows, columns = output_size((height, width), kernel, stride, _NO_PADDING, dilation)
    if tuple(kernel) == (1, 1):
        return x[:, :: stride[0], :: stride[1], None, None, :]
    row = width * channels
    return mx.as_strided(
        x,
        (n, rows, columns, *kernel, channels),
        (height * row, stride[0] * row, stride[1] * channels, dilation[0] * row, dilation[1] * channels, 1),
    )


def patch_matrices(x: mx.array, kernel: Sequence[int], geometry: Geometry, m: int) -> list[mx.array]:
    """x (N, H, W, C) -> what the kernel sees at each position, in `m` matrices: one (m, N·H'·W' / m, kh·kw·C)."""
    return [matrices(patches(x, kernel, geometry), m, tail=3)]


def row_matrices(x: mx.array, kernel: Sequence[int], geometry: Geometry) -> list[mx.array]:
    """For each row of the kernel, what it sees at each position: (N, H'·W', kw·C).

    All are pieces of one array, in which a pixel is written once for every tap of a row, not of the kernel.
    """
    (stride, step), ((top, _), sides), (apart, beside), _ = geometry
    rows, columns = geometry.output_size(x.shape[1:3], kernel)
    reach = (kernel[0] - 1) * apart
    # Rows of the image from which the same row of the kernel is taken lie side by side: every `stride`-th.
    length = reach // stride + rows
    x = pad(x, ((top, length * stride - top - x.shape[1]), sides))
    n, height, width, channels = x.shape
    row, phases = width * channels, min(stride, reach + 1)
    wide = mx.as_strided(
        x,
        (n, phases, length, columns, kernel[1], channels),
        (height * row, row, stride * row, step * channels, beside * channels, 1),
    )
    wide = wide.reshape(n, phases * length * columns, kernel[1] * channels)
    pieces = []
    for i in range(kernel[0]):
        away, phase = divmod(i * apart, stride)
        start = (phase * length + away) * columns
        pieces.append(wide[:, start : start + rows * columns])
    return pieces


def shifts(x: mx.array, kernel: Sequence[int], geometry: Geometry) -> Iterator[tuple[int, int, mx.array]]:
    """For each tap, its row and column, and what it sees at each position: (N, H', W', C).

    With stride 1 it is (N, H'·W, C) instead, for `W` the padded width: whole rows, which are one piece of memory each.
    The last W - W' columns of these have no meaning; `cut` takes them away.
    """
    stride, padding, dilation, _ = geometry
    (top, bottom), sides = padding
    whole_rows = stride == (1, 1)
    # The last tap sees beyond the end of the last row.
    x = pad(x, ((top, bottom + 1), sides) if whole_rows else padding)
    n, height, width, channels = x.shape
    rows, columns = output_size((height - whole_rows, width), kernel, stride, _NO_PADDING, dilation)
    if whole_rows:
        x = x.reshape(n, height * width, channels)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            above, left = i * dilation[0], j * dilation[1]
            if whole_rows:
                start = above * width + left
                yield i, j, x[:, start : start + rows * width]
            else:
                below, right = above + (rows - 1) * stride[0] + 1, left + (columns - 1) * stride[1] + 1
                yield i, j, x[:, above : below : stride[0], left : right : stride[1]]


def cut(x: mx.array, rows: int, columns: int) -> mx.array:
    """What became of `shifts`: (N, H'·W, C) or (N, H', W', C) -> (N, H', W', C)."""
    return x if x.ndim == 4 else x.reshape(x.shape[0], rows, -1, x.shape[2])[:, :, :columns]


def widen(x: mx.array, kernel: Sequence[int], geometry: Geometry) -> mx.array:
    """x (N, H', W', C) laid out like `shifts`, with zeros in the columns that have no meaning there."""
    if geometry.stride != (1, 1):
        return x
    beyond = (kernel[1] - 1) * geometry.dilation[1]
    return mx.pad(x, [(0, 0), (0, 0), (0, beyond), (0, 0)]).reshape(x.shape[0], -1, x.shape[3])


def matrices(x: mx.array, m: int, tail: int) -> mx.array:
    """The last `tail` axes as rows, in `m` matrices: (N, H', W', ...) -> (m, N·H'·W' / m, K)."""
    length = 1
    for size in x.shape[x.ndim - tail :]:
        length *= size
    return x.reshape(m, -1, length)


def sum_of_products(seen: Sequence[mx.array], kernels: Sequence[mx.array]) -> mx.array:
    """The sum over pairs of (m, P, K) times the transpose of (m, O, K) -> (m, P, O)."""
    output = seen[0] @ kernels[0].swapaxes(1, 2)
    for one, other in zip(seen[1:], kernels[1:], strict=True):
        # Added where the sum lies, without a pass over it.
        output = mx.addmm(output, one, other.swapaxes(1, 2))
    return output


def spread(kernels: mx.array, dilation: Pair) -> mx.array:
    """Kernels (..., kh, kw, C) without dilation: zeros between the taps."""
    *lead, kh, kw, channels = kernels.shape
    between = [(0, 0)] * len(lead) + [(0, 0), (0, dilation[0] - 1), (0, 0), (0, dilation[1] - 1), (0, 0)]
    wide = mx.pad(kernels[..., :, None, :, None, :], between)
    wide = wide.reshape(*lead, kh * dilation[0], kw * dilation[1], channels)
    return wide[..., : (kh - 1) * dilation[0] + 1, : (kw - 1) * dilation[1] + 1, :]


def groups_to_examples(x: mx.array, groups: int) -> mx.array:
    """(N, H, W, G·C) -> (N·G, H, W, C): a group is an example of its own."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height, width, groups, channels // groups).transpose(0, 3, 1, 2, 4)
    return x.reshape(n * groups, height, width, channels // groups)


def examples_to_groups(x: mx.array, groups: int) -> mx.array:
    """(N·G, H, W, C) -> (N, H, W, G·C)."""
    n, height, width, channels = x.shape
    x = x.reshape(n // groups, groups, height, width, channels).transpose(0, 2, 3, 1, 4)
    return x.reshape(n // groups, height, width, groups * channels)


def kernels_of_groups(kernels: mx.array, groups: int) -> mx.array:
    """(N, G·O, kh, kw, C) -> (N·G, O, kh, kw, C), to go with `groups_to_examples`."""
    n, out, *rest = kernels.shape
    return kernels.reshape(n * groups, out // groups, *rest)
