"""Two models on the same images, and two images under one model."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """How alike two models answer N images.

    Attributes:
        same: whether the likeliest class is the same, (N,) booleans.
        apart: how much of the probability lies elsewhere, (N,) in [0, 1]: 0 for equal answers, 1 for ones that share
            nothing (total variation distance).
    """

    same: np.ndarray
    apart: np.ndarray


def agreement(first: np.ndarray, second: np.ndarray) -> Agreement:
    """Compare probabilities (N, classes) of two models that know the same classes in the same order."""
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"[agreement] need two of shape (N, classes), got {first.shape} and {second.shape}.")
    return Agreement(
        same=first.argmax(axis=1) == second.argmax(axis=1),
        apart=np.abs(first.astype(np.float64) - second).sum(axis=1) / 2,
    )


def in_order_of(labels: tuple[str, ...], others: tuple[str, ...], probabilities: np.ndarray) -> np.ndarray | None:
    """Probabilities (N, classes) of a model with the classes `others`, in the order of `labels`.

    None if these are not the same classes.
    """
    if sorted(labels) != sorted(others):
        return None
    # Where two classes have one name, nobody could tell which is which.
    if len(set(labels)) < len(labels) and labels != others:
        return None
    place = {label: i for i, label in enumerate(others)}
    return probabilities if labels == others else probabilities[:, [place[label] for label in labels]]


def routing_distance(first: np.ndarray, second: np.ndarray) -> float:
    """By how much the routing weights (E,) of two images differ: the mean over the experts, in [0, 1]."""
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"[routing_distance] need two of shape (E,), got {first.shape} and {second.shape}.")
    return float(np.abs(first.astype(np.float64) - second).mean())


def mean_routing_distance(weights: np.ndarray) -> float:
    """The mean of `routing_distance` over all pairs of N images with routing weights (N, E); N at least 2."""
    if weights.ndim != 2 or len(weights) < 2:
        raise ValueError(f"[mean_routing_distance] weights must be (N, E) of two or more, got shape {weights.shape}.")
    count = len(weights)
    # In ascending order, the k-th of N values is the larger one in k pairs, and the smaller one in N - 1 - k.
    signs = 2 * np.arange(count) - (count - 1)
    sums = signs @ np.sort(weights.astype(np.float64), axis=0)
    return float(sums.mean() / (count * (count - 1) / 2))
