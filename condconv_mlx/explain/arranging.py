"""Images in order of their routing, and on a map of it."""

from importlib.util import find_spec

import numpy as np

# An order by clustering takes N² distances: 32 MB for this many images.
MANY = 2000
# t-SNE and UMAP, where their libraries happen to be installed.
IMAGE_MAPS = ["PCA"]
if find_spec("sklearn"):
    IMAGE_MAPS.append("t-SNE")
if find_spec("umap"):
    IMAGE_MAPS.append("UMAP")


def image_map(vectors: np.ndarray, method: str = "PCA") -> tuple[np.ndarray, np.ndarray | None]:
    """Images on a plane by their routing vectors (N, D): near each other where they are routed alike.

    Args:
        method: one of IMAGE_MAPS. `"PCA"` keeps as much of the variance as a plane can, distances included; the others
            keep neighbours together, and their distances and axes mean nothing.

    Returns:
        Places (N, 2), and for PCA the shares of the variance along both axes (2,), else None.

    Raises:
        ValueError: if `vectors` has another shape, or the method is not here.
    """
    vectors = _checked("image_map", vectors)
    if method not in IMAGE_MAPS:
        raise ValueError(f"[image_map] method must be one of {IMAGE_MAPS}, got {method!r}.")
    if method == "PCA":
        return _principal(vectors, 2)
    neighbours = min(15, len(vectors) - 1)
    if neighbours < 3:
        raise ValueError(f"[image_map] {method} needs at least 4 images, got {len(vectors)}.")
    if method == "t-SNE":
        from sklearn.manifold import TSNE

        return TSNE(perplexity=neighbours, init="pca", random_state=0).fit_transform(vectors), None
    from umap import UMAP

    return UMAP(n_neighbors=neighbours, random_state=0).fit_transform(vectors), None


def main_direction(vectors: np.ndarray) -> np.ndarray:
    """Images (N, D) in order along their first principal component: indices (N,)."""
    return np.argsort(_principal(_checked("main_direction", vectors), 1)[0][:, 0], kind="stable")


def by_similarity(vectors: np.ndarray) -> np.ndarray:
    """Images in an order that puts those next to each other that are routed alike: (N, D) to indices (N,).

    Up to MANY images by hierarchical clustering: average linkage of Euclidean distances, the leaves of its tree from
    left to right, each branch turned so that the half with the smaller mean along the first principal component goes
    first. More along that component alone.
    """
    vectors = _checked("by_similarity", vectors)
    if len(vectors) > MANY:
        return main_direction(vectors)
    along = _principal(vectors, 1)[0][:, 0]
    leaves = {n: [n] for n in range(len(vectors))}
    for left, right, _ in average_linkage(vectors):
        branches = sorted((leaves.pop(left), leaves.pop(right)), key=lambda branch: along[branch].mean())
        leaves[min(left, right)] = branches[0] + branches[1]
    return np.array(leaves[0])


def average_linkage(vectors: np.ndarray) -> list[tuple[int, int, float]]:
    """The merges of agglomerative clustering: two clusters, each by its smallest member, and their mean distance.

    By chains of nearest neighbours (Müllner, arXiv 1109.2378, figure 3), so O(N²): a chain follows nearest neighbours
    until two are each other's, which are merged whatever the rest looks like. The order of the merges is thus not by
    distance, but each comes after those it is made of.
    """
    vectors = _checked("average_linkage", vectors)
    norms = (vectors**2).sum(axis=1)
    distances = np.sqrt(np.maximum(norms[:, None] + norms - 2 * vectors @ vectors.T, 0))
    np.fill_diagonal(distances, np.inf)
    sizes = np.ones(len(vectors))
    merges: list[tuple[int, int, float]] = []
    chain: list[int] = []
    while len(merges) < len(vectors) - 1:
        if not chain:
            chain.append(int(np.flatnonzero(sizes)[0]))
        row = distances[chain[-1]]
        nearest = int(row.argmin())
        # A tie must go back, or the chain runs in circles.
        if len(chain) > 1 and row[chain[-2]] <= row[nearest]:
            b, a = chain.pop(), chain.pop()
            a, b = min(a, b), max(a, b)
            merges.append((a, b, float(distances[a, b])))
            mean = (sizes[a] * distances[a] + sizes[b] * distances[b]) / (sizes[a] + sizes[b])
            distances[a], distances[:, a] = mean, mean
            distances[b], distances[:, b], distances[a, a] = np.inf, np.inf, np.inf
            sizes[a], sizes[b] = sizes[a] + sizes[b], 0
        else:
            chain.append(nearest)
    return merges


def _principal(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places along the first principal components, (N, count), and their shares of the variance, (count,)."""
    centred = vectors - vectors.mean(axis=0)
    left, values, directions = np.linalg.svd(centred, full_matrices=False)
    # The sign of a component is free: the largest part of its direction is positive, on every machine.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)
    places, shares = np.zeros((len(vectors), count)), np.zeros(count)
    kept = min(count, len(values))
    places[:, :kept] = (left * values * signs)[:, :kept]
    total = (values**2).sum()
    if total > 0:
        shares[:kept] = values[:kept] ** 2 / total
    return places, shares


def _checked(name: str, vectors: np.ndarray) -> np.ndarray:
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(f"[{name}] vectors must be (N, D) with both at least 1, got shape {vectors.shape}.")
    return vectors.astype(np.float64)
