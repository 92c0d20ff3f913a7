"""Parts of one operation at once, each on a CPU core of its own.

MLX's CPU backend computes the operations of a stream one after the other, on one thread, and waits where one needs what
another stream computes. A thread of Python can use no streams but those it made, so each has its own.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

import mlx.core as mx

from condconv_mlx import cpu

T = TypeVar("T")

_of_thread = threading.local()
_whole = ContextVar("whole", default=False)


@contextmanager
def in_one_piece() -> Iterator[None]:
    """Nothing is cut in this block. For `mx.export_function`, whose files would keep the streams of this machine."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def parts(work: float, least: float) -> int:
    """In how many parts to compute something: 1 for `work` below `least`, on a GPU, and as `cpu.parts` says."""
    if work < least or _whole.get() or mx.default_device() != mx.cpu:
        return 1
    return cpu.parts()


def cut(size: int, count: int) -> list[slice]:
    """`size` in `count` parts that differ by one at most."""
    bounds = [size * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What each call gives, its operations on a stream of its own; the first stays on the default one."""
    results = []
    for number, call in enumerate(calls):
        with mx.stream(_extra(number)) if number else nullcontext():
            results.append(call())
    return results


def piecewise(function: Callable[..., mx.array], *arrays: mx.array, least: float) -> mx.array:
    """A function of single numbers: arrays of one shape -> an array of that shape, in parts from `least` numbers on."""
    count = parts(arrays[0].size, least)
    if count == 1:
        return function(*arrays)
    flat = [array.reshape(-1) for array in arrays]
    calls = [
        partial(lambda piece: function(*(array[piece] for array in flat)), piece) for piece in cut(flat[0].size, count)
    ]
    return mx.concatenate(at_once(calls)).reshape(arrays[0].shape)


def _extra(number: int) -> mx.Stream:
    """The `number`-th stream beside the default one, counted from 1."""
    if not hasattr(_of_thread, "extra"):
        _of_thread.extra = []
    while len(_of_thread.extra) < number:
        _of_thread.extra.append(mx.new_stream(mx.Device(mx.cpu)))
    return _of_thread.extra[number - 1]
