"""Strides, paddings and output sizes, as plain integers."""

from collections.abc import Sequence
from typing import NamedTuple

Pair = tuple[int, int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]
PaddingPairs = tuple[Pair, Pair]


class Geometry(NamedTuple):
    """How a kernel moves over an image; all but `groups` by axis, (height, width)."""

    stride: Pair
    padding: PaddingPairs
    dilation: Pair
    groups: int = 1

    def without_groups(self) -> "Geometry":
        """The geometry of one group alone."""
        return self._replace(groups=1)

    def is_depthwise(self, channels: int, out: int) -> bool:
        """Whether each of `channels` is convolved alone and gives one of as many channels out."""
        return self.groups == channels == out

    def output_size(self, size: Sequence[int], kernel: Sequence[int]) -> Pair:
        """Height and width of the output, from those of the input."""
        return output_size(size, kernel, self.stride, self.padding, self.dilation)


def pair(value: int | Sequence[int], name: str, minimum: int = 1) -> Pair:
    """`value` for height and width; `ValueError` unless it is one integer or two, each at least `minimum`."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or not all(isinstance(item, int) and item >= minimum for item in both):
        raise ValueError(f"[condconv] {name} must be an integer >= {minimum} or a pair of them, got {value!r}.")
    return both[0], both[1]


def padding_pairs(
    padding: Padding, size: Sequence[int], kernel: Sequence[int], stride: Pair, dilation: Pair
) -> PaddingPairs:
    """`padding` as ((top, bottom), (left, right)).

    Takes an integer, a pair (height, width), pairs by axis, `"valid"`, or `"same"`. The last is TensorFlow's:
    output = ceil(input / stride), and an odd pixel goes after.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        return (
            _same(size[0], kernel[0], stride[0], dilation[0]),
            _same(size[1], kernel[1], stride[1], dilation[1]),
        )
    if isinstance(padding, str):
        raise ValueError(f'[condconv] padding must be numbers, "valid" or "same", got "{padding}".')
    if isinstance(padding, int) or all(isinstance(item, int) for item in padding):
        height, width = pair(padding, "padding", minimum=0)  # type: ignore[arg-type]
        return (height, height), (width, width)
    if len(padding) != 2:
        raise ValueError(f"[condconv] padding by axis must be two pairs, got {padding!r}.")
    return pair(padding[0], "padding", minimum=0), pair(padding[1], "padding", minimum=0)


def _same(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: Pair, padding: PaddingPairs, dilation: Pair
) -> Pair:
    """Height and width of the output; `ValueError` where the kernel does not fit into the padded input."""
    padded = (size[0] + sum(padding[0]), size[1] + sum(padding[1]))
    reach = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
    if padded[0] < reach[0] or padded[1] < reach[1]:
        raise ValueError(
            f"[condconv] A kernel of {tuple(kernel)} with dilation {dilation} needs an input of at least {reach}, "
            f"got {padded} (height, width) with padding."
        )
    return (padded[0] - reach[0]) // stride[0] + 1, (padded[1] - reach[1]) // stride[1] + 1
