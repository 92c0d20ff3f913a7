"""Gradient checkpointing: blocks that compute twice instead of keeping what they compute on the way.

`nn.utils.checkpoint` would do for a block without state. Ours have statistics of batch normalisation, which would move
twice, random numbers, which would be others the second time, and routers that are watched from outside. So all of
these go into one function as arguments, and come out of it as results.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from condconv_mlx.layers import Router, observer

Arrays = dict[str, mx.array]


@contextmanager
def acting_as(module: nn.Module, other: type) -> Iterator[None]:
    """For the time of the block, a module is of another class, with the same parameters by the same names."""
    before = type(module)
    object.__setattr__(module, "__class__", other)
    try:
        yield
    finally:
        object.__setattr__(module, "__class__", before)


@contextmanager
def recomputed_blocks(model: nn.Module) -> Iterator[None]:
    """For the time of the block, the network's `blocks` keep only their inputs for the gradients. `ValueError` if it
    has none."""
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, list) or not blocks:
        raise ValueError("this network has no list of blocks: leave out checkpointing")
    with ExitStack() as stack:
        for block in blocks:
            for module in block.modules():
                if type(module) is nn.Dropout:
                    stack.enter_context(acting_as(module, _KeyedDropout))
            kind: Any = type(block)
            stack.enter_context(acting_as(block, _recomputed(kind)))
        yield


class _KeyedDropout(nn.Dropout):
    """`nn.Dropout`, with random numbers from `key`."""

    def __call__(self, x: mx.array) -> mx.array:
        if self._p_1 == 1 or not self.training:
            return x
        kept = mx.random.bernoulli(p=self._p_1, shape=x.shape, key=self._key)
        return (1 / self._p_1) * kept * x


@cache
def _recomputed(kind: Any) -> type:
    class Recomputed(kind):
        def __call__(self, x: mx.array) -> mx.array:
            return _call(self, kind, x) if self.training else kind.__call__(self, x)

    return Recomputed


class _Collector:
    """An `Observer` inside that function; what it saw has to leave by way of the results."""

    def __init__(self) -> None:
        self.seen: list[tuple[Router, mx.array]] = []

    def routed(self, router: Router, routing_weights: mx.array) -> mx.array:
        self.seen.append((router, routing_weights))
        return routing_weights

    def used(self, layer: nn.Module, routing_weights: mx.array) -> None:
        pass


def _call(block: nn.Module, kind: Any, x: mx.array) -> mx.array:
    trainable: Any = dict(tree_flatten(block.trainable_parameters()))
    every: Any = dict(tree_flatten(block.parameters()))
    others = {name: value for name, value in every.items() if name not in trainable}
    dropouts = [module for module in block.modules() if isinstance(module, _KeyedDropout)]
    keys = mx.random.randint(0, 2**31 - 1, (len(dropouts), 2)).astype(mx.uint32)
    routers: list[Router] = []

    def forward(x: mx.array, trainable: Arrays, others: Arrays, keys: mx.array) -> list[mx.array]:
        """The output, the arrays that are not trained as they are afterwards, and the weights of all routers."""
        block.update(tree_unflatten(list({**trainable, **others}.items())))
        for dropout, key in zip(dropouts, keys, strict=True):
            # nn.Module would keep an array as a parameter, so go around it.
            object.__setattr__(dropout, "_key", key)
        collector = _Collector()
        token = observer.set(collector)
        try:
            y = kind.__call__(block, x)
        finally:
            observer.reset(token)
        routers[:] = [router for router, _ in collector.seen]
        after: Any = dict(tree_flatten(block.parameters()))
        return [y, *(after[name] for name in others), *(weights for _, weights in collector.seen)]

    @mx.custom_function
    def run(x: mx.array, trainable: Arrays, others: Arrays, keys: mx.array) -> list[mx.array]:
        return forward(x, trainable, others, keys)

    @run.vjp
    def gradients(primals: tuple, cotangents: list[mx.array], _: list[mx.array]) -> tuple:
        x, trainable, others, keys = primals
        # Not before the gradient of the output is there. `mx.checkpoint` leaves the order open, and MLX 0.32.4 then
        # computes all blocks again before the first gradient, which keeps as much as without checkpointing.
        values = mx.depends([x, *trainable.values()], cotangents)

        def again(x: mx.array, *values: mx.array) -> list[mx.array]:
            return forward(x, dict(zip(trainable, values, strict=True)), others, keys)

        of_x, *of_values = mx.vjp(again, values, cotangents)[1]
        zeros = {name: mx.zeros_like(value) for name, value in others.items()}
        return of_x, dict(zip(trainable, of_values, strict=True)), zeros, mx.zeros_like(keys)

    results: Any = run(x, trainable, others, keys)
    y, *rest = results
    others, weights = dict(zip(others, rest, strict=False)), rest[len(others) :]
    block.update(tree_unflatten(list({**trainable, **others}.items())))
    watching = observer.get()
    if watching is not None:
        for router, seen in zip(routers, weights, strict=True):
            watching.routed(router, seen)
    return y
