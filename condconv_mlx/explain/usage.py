"""How a router uses its experts over many images, in a few numbers."""

from dataclasses import dataclass

import numpy as np

SATURATED = 0.05  # a weight this close to 0 or 1 hardly learns any more
RARE = 0.01  # of the images
CONSTANT = 0.01  # standard deviation of a weight, which lies in [0, 1]
BIMODAL = 5 / 9  # of a uniform distribution


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
    weights = _checked("usage", weights)
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    terms = share * np.log(share, out=np.zeros_like(share), where=share > 0)
    experts = weights.shape[1]
    return Usage(
        entropy=float(-terms.sum(axis=1).mean() / np.log(experts)) if experts > 1 else 0.0,
        saturated=float(((weights < SATURATED) | (weights > 1 - SATURATED)).mean()),
        deviation=float(weights.std(axis=0).mean()),
        experts=tuple(weights.mean(axis=0).tolist()),
    )


@dataclass(frozen=True)
class Spread:
    """How the weights of each of E experts are spread over [0, 1].

    Attributes:
        edges: of B bins, (B + 1,).
        counts: images in each bin, (E, B). The last bin holds 1 too.
        low, high: the share of images below SATURATED and above 1 - SATURATED, (E,).
        bimodality: Sarle's coefficient with its correction for few images, (E,) in [0, 1]. Above BIMODAL, that of a
            uniform distribution, there may well be two peaks; NaN for fewer than four images or equal weights.
    """

    edges: np.ndarray
    counts: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bimodality: np.ndarray


def spread(weights: np.ndarray, bins: int = 20) -> Spread:
    """The distribution of each expert's weight over N images, from routing weights (N, E) in [0, 1]."""
    weights = _checked("spread", weights)
    edges = np.linspace(0, 1, bins + 1)
    return Spread(
        edges=edges,
        counts=np.stack([np.histogram(column, edges)[0] for column in weights.T]),
        low=(weights < SATURATED).mean(axis=0),
        high=(weights > 1 - SATURATED).mean(axis=0),
        bimodality=np.array([_bimodality(column) for column in weights.T]),
    )


def _bimodality(values: np.ndarray) -> float:
    """(skewness² + 1) / (excess kurtosis + 3(n - 1)² / ((n - 2)(n - 3))), both estimated without bias."""
    n, deviation = len(values), values.std()
    if n < 4 or deviation < 1e-6:
        return float("nan")
    z = (values - values.mean()) / deviation
    skewness, excess = (z**3).mean(), (z**4).mean() - 3
    skewness *= np.sqrt(n * (n - 1)) / (n - 2)
    excess = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * excess + 6)
    return float((skewness**2 + 1) / (excess + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3))))


def expert_states(weights: np.ndarray) -> list[str]:
    """What has become of each expert over N images, from routing weights (N, E) in [0, 1].

    - `"dead"`: at most RARE of the images give it SATURATED or more. A small weight can still scale a large kernel;
      silencing the expert (`silencing`) tells what it does.
    - `"always on"`: at most RARE of the images give it 1 - SATURATED or less.
    - `"constant"`: neither, but its weight differs from image to image by less than CONSTANT (standard deviation), so
      it is a part of one static kernel.
    - `"in use"`: any other. With fewer than 1 / RARE images, a single image is enough for that.
    """
    weights = _checked("expert_states", weights)
    states = []
    for column in weights.T:
        if (column >= SATURATED).mean() <= RARE:
            states.append("dead")
        elif (column <= 1 - SATURATED).mean() <= RARE:
            states.append("always on")
        elif column.std() < CONSTANT:
            states.append("constant")
        else:
            states.append("in use")
    return states


def _checked(name: str, weights: np.ndarray) -> np.ndarray:
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"[{name}] weights must be (N, E) with both at least 1, got shape {weights.shape}.")
    return weights.astype(np.float64)
