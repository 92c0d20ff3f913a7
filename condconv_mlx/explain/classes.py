"""Which classes and images an expert is for."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Separation:
    """How much of the routing the class of an image explains (eta squared, of a one-way analysis of variance).

    Attributes:
        experts: for each expert the share of its variance that lies between classes, (E,) in [0, 1]; 0 if it never
            varies.
        router: the same of all experts together, in [0, 1].
        chance: what weights that do not depend on the class would give on average: few images a class look separated.
    """

    experts: np.ndarray
    router: float
    chance: float


@dataclass(frozen=True)
class Portrait:
    """What one expert is called on for.

    Attributes:
        mean: its mean weight over all images.
        classes: (class, mean weight in it), the highest first.
        images: (index of the image, its weight), the highest first.
    """

    mean: float
    classes: tuple[tuple[int, float], ...]
    images: tuple[tuple[int, float], ...]


def class_means(weights: np.ndarray, classes: np.ndarray, num_classes: int | None = None) -> np.ndarray:
    """The mean routing weights of each class, the paper's section 5 figure of four classes at three depths.

    Args:
        weights: (N, E).
        classes: the class of each image, integers (N,) from 0.
        num_classes: C; by default up to the largest class there is.

    Returns:
        (C, E) as float64, NaN for a class without images.

    Raises:
        ValueError: if the shapes do not fit, or a class lies outside.
    """
    weights, classes = _checked("class_means", weights, classes)
    count = int(classes.max()) + 1 if num_classes is None else num_classes
    if classes.max() >= count:
        raise ValueError(f"[class_means] classes must be below {count}, got {classes.max()}.")
    sums = np.zeros((count, weights.shape[1]))
    np.add.at(sums, classes, weights)
    sizes = np.bincount(classes, minlength=count)[:, None]
    return np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0)


def separation(weights: np.ndarray, classes: np.ndarray) -> Separation:
    """How well routing weights (N, E) tell the classes (N,) apart. See `Separation`."""
    weights, classes = _checked("separation", weights, classes)
    present, classes = np.unique(classes, return_inverse=True)
    means = class_means(weights, classes)
    mean = weights.mean(axis=0)
    sizes = np.bincount(classes)[:, None]
    between = (sizes * (means - mean) ** 2).sum(axis=0)
    total = ((weights - mean) ** 2).sum(axis=0)
    # A weight that is the same for all images varies by rounding alone.
    varies = total > 1e-12 * len(weights)
    share = np.divide(between, total, out=np.zeros_like(total), where=varies)
    return Separation(
        experts=share,
        router=float(between[varies].sum() / total[varies].sum()) if varies.any() else 0.0,
        chance=(len(present) - 1) / (len(weights) - 1) if len(weights) > 1 else 0.0,
    )


def portraits(weights: np.ndarray, classes: np.ndarray, top: int = 5) -> list[Portrait]:
    """For each expert the `top` classes and images with the highest weights, from weights (N, E) and classes (N,)."""
    weights, classes = _checked("portraits", weights, classes)
    present = np.unique(classes)
    means = class_means(weights, classes)[present]
    found = []
    for expert in range(weights.shape[1]):
        labels = np.argsort(-means[:, expert], kind="stable")[:top]
        images = np.argsort(-weights[:, expert], kind="stable")[:top]
        found.append(
            Portrait(
                mean=float(weights[:, expert].mean()),
                classes=tuple((int(present[i]), float(means[i, expert])) for i in labels),
                images=tuple((int(n), float(weights[n, expert])) for n in images),
            )
        )
    return found


def _checked(name: str, weights: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    classes = np.asarray(classes)
    if weights.ndim != 2 or 0 in weights.shape or classes.shape != weights.shape[:1]:
        raise ValueError(
            f"[{name}] weights must be (N, E) with both at least 1 and classes (N,), "
            f"got shapes {weights.shape} and {classes.shape}."
        )
    if not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0:
        raise ValueError(f"[{name}] classes must be integers from 0.")
    return weights.astype(np.float64), classes
