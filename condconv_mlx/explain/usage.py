"""How a router uses its experts over many images, in a few numbers."""

from dataclasses import dataclass

import numpy as np

SATURATED = 0.05  # a weight this close to 0 or 1 hardly learns any more


@dataclass(frozen=True)
class Usage:
    """What one router does over N images.

    Attributes:
        entropy: how evenly an image uses the experts, mean over images: 1 if all alike, 0 if one alone.
        saturated: the share of weights below SATURATED or above 1 - SATURATED.
        deviation: by how much a weight differs from image to image, mean over experts; 0 if the images do not matter.
        experts: the mean weight of each expert, (E,). One near 0 is not used, or has collapsed.
    """

    entropy: float
    saturated: float
    deviation: float
    experts: tuple[float, ...]


def usage(weights: np.ndarray) -> Usage:
    """The usage of the experts from routing weights (N, E) in [0, 1], as `trace` gives them.

    The entropy is that of an image's weights divided by their sum, over log E.

    Raises:
        ValueError: if the weights have another shape, or there are none.
    """
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"[usage] weights must be (N, E) with both at least 1, got shape {weights.shape}.")
    weights = weights.astype(np.float64)
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    terms = share * np.log(share, out=np.zeros_like(share), where=share > 0)
    experts = weights.shape[1]
    return Usage(
        entropy=float(-terms.sum(axis=1).mean() / np.log(experts)) if experts > 1 else 0.0,
        saturated=float(((weights < SATURATED) | (weights > 1 - SATURATED)).mean()),
        deviation=float(weights.std(axis=0).mean()),
        experts=tuple(weights.mean(axis=0).tolist()),
    )
