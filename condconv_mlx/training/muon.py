"""Muon, which knows that a kernel of CondConv is several matrices."""

from collections.abc import Callable
from functools import partial

import mlx.core as mx
import mlx.optimizers as optim

from condconv_mlx.functional.streams import at_once, cut, parts

ITERATIONS = 3  # of Newton and Schulz, as in airbench94_muon, which trains a network like condconv_small
IN_PARTS = 1e7  # multiply-adds of one product from which experts are computed in parts
QUINTIC = (3.4445, -4.7750, 2.0315)  # of their polynomial, steep at 0 (Jordan, "Muon")


class Muon(optim.Optimizer):
    """Momentum whose matrices are made orthogonal, so that every direction of a kernel learns equally fast.

    A convolution's kernel (O, kh, kw, Cin) is taken as a matrix of O rows, that of CondConv (E, O, kh, kw, Cin) as one
    matrix an expert, where `mlx.optimizers.Muon` would make the experts orthogonal to each other. Weights decay by
    themselves, not by the gradients. Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks";
    weight decay from Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982.

    Args:
        learning_rate: the spectral norm of a step, or a schedule of it; more for a matrix with more rows than columns.
        momentum: of Nesterov's kind, in [0, 1).
        weight_decay: share of a weight that a step takes away, in learning rates.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[mx.array], mx.array],
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.momentum = momentum
        self.weight_decay = weight_decay

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        state["v"] = self.momentum * state["v"] + gradient
        direction = gradient + self.momentum * state["v"]
        matrices = direction.reshape(*direction.shape[:-4], direction.shape[-4], -1)
        rows, columns = matrices.shape[-2:]
        step = self.learning_rate.astype(gradient.dtype)
        count = parts(len(matrices) * min(rows, columns) * rows * columns, IN_PARTS) if matrices.ndim > 2 else 1
        pieces = at_once([partial(orthogonal, matrices[piece]) for piece in cut(len(matrices), count)])
        change = max(1, rows / columns) ** 0.5 * mx.concatenate(pieces).reshape(direction.shape)
        return (1 - step * self.weight_decay) * parameter - step * change


def orthogonal(matrices: mx.array) -> mx.array:
    """About U V^T of the singular value decomposition U S V^T: matrices (..., M, N), singular values near 1.

    They end between 0.3 and 1.3, unless they are small beside the largest. The iterations are on the smaller Gram
    matrix alone, which the polynomials of them commute with: for M <= N about 2 M² N + 4 M³ an iteration,
    multiply-adds.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.swapaxes(-1, -2) if tall else matrices
    x = x / (mx.linalg.norm(x, axis=[-2, -1], keepdims=True) + 1e-7)
    gram = x @ x.swapaxes(-1, -2)
    product = factor = _polynomial(gram)
    for _ in range(ITERATIONS - 1):
        gram = factor @ (factor @ gram)
        factor = _polynomial(gram)
        product = factor @ product
    x = product @ x
    return x.swapaxes(-1, -2) if tall else x


def _polynomial(gram: mx.array) -> mx.array:
    a, b, c = QUINTIC
    return a * mx.eye(gram.shape[-1], dtype=gram.dtype) + b * gram + c * (gram @ gram)
