"""Orders and maps of images, against plain loops."""

import sys
import types

import numpy as np
import pytest

from condconv_mlx.explain import arranging, by_similarity, image_map, main_direction
from condconv_mlx.explain.arranging import average_linkage


def loop_linkage(vectors: np.ndarray) -> set[tuple[frozenset[int], float]]:
    """The clusters of average linkage and the distance at which each came about, by its definition."""
    clusters = [frozenset([n]) for n in range(len(vectors))]
    made = set()
    while len(clusters) > 1:
        best = None
        for a in range(len(clusters)):
            for b in range(a):
                between = [np.linalg.norm(vectors[i] - vectors[j]) for i in clusters[a] for j in clusters[b]]
                distance = float(np.mean(between))
                if best is None or distance < best[0]:
                    best = distance, clusters[a], clusters[b]
        assert best is not None
        distance, a, b = best
        clusters = [cluster for cluster in clusters if cluster not in (a, b)] + [a | b]
        made.add((a | b, round(distance, 8)))
    return made


@pytest.mark.parametrize("seed", range(5))
def test_linkage_is_its_definition(seed: int) -> None:
    vectors = np.random.default_rng(seed).random((17, 3))
    members = {n: frozenset([n]) for n in range(17)}
    made = set()
    for a, b, distance in average_linkage(vectors):
        assert a < b
        members[a] |= members.pop(b)
        made.add((members[a], round(distance, 8)))
    assert made == loop_linkage(vectors)


def test_groups_stay_together() -> None:
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(4), 25))
    vectors = np.array([[0, 0], [9, 0], [3, 0], [30, 0]])[groups] + rng.normal(0, 0.1, (100, 2))
    order = by_similarity(vectors)
    assert sorted(order) == list(range(100))
    # Each group once, and along the main direction.
    found = groups[order]
    assert [int(found[0])] + [int(b) for a, b in zip(found, found[1:], strict=False) if a != b] == [0, 2, 1, 3]


def test_equal_images_and_a_single_one() -> None:
    assert sorted(by_similarity(np.ones((6, 2)))) == list(range(6))
    assert by_similarity(np.ones((1, 2))).tolist() == [0]
    places, shares = image_map(np.ones((3, 1)))
    assert np.array_equal(places, np.zeros((3, 2))) and shares is not None and not shares.any()


def test_many_go_along_the_main_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).random((40, 1)) * [3.0, 1.0]
    monkeypatch.setattr(arranging, "MANY", 39)
    assert by_similarity(vectors).tolist() == np.argsort(vectors[:, 0]).tolist() == main_direction(vectors).tolist()


def test_the_map_is_that_of_the_covariance() -> None:
    vectors = np.random.default_rng(0).random((50, 5)) * [5, 3, 1, 1, 1]
    places, shares = image_map(vectors)
    values, directions = np.linalg.eigh(np.cov(vectors.T))
    assert shares is not None
    np.testing.assert_allclose(shares, values[::-1][:2] / values.sum(), rtol=1e-9)
    for axis in range(2):
        direction = directions[:, -1 - axis]
        direction = direction * np.sign(direction[np.abs(direction).argmax()])
        np.testing.assert_allclose(places[:, axis], (vectors - vectors.mean(axis=0)) @ direction, atol=1e-9)


@pytest.mark.parametrize("library, method", [("sklearn.manifold", "t-SNE"), ("umap", "UMAP")])
def test_other_maps_come_from_their_library(library: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    class Stand:
        def __init__(self, **options: object) -> None:
            asked.update(options)

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            return vectors[:, :2]

    module = types.ModuleType(library)
    setattr(module, "TSNE" if method == "t-SNE" else "UMAP", Stand)
    if "." in library:
        monkeypatch.setitem(sys.modules, "sklearn", types.ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, library, module)
    monkeypatch.setattr(arranging, "IMAGE_MAPS", ["PCA", method])
    vectors = np.random.default_rng(0).random((9, 3))
    places, shares = image_map(vectors, method)
    assert np.array_equal(places, vectors[:, :2]) and shares is None
    # With the default of 30 neighbours, nine images are an error.
    assert asked["random_state"] == 0 and 8 in asked.values()
    with pytest.raises(ValueError, match="needs at least 4 images, got 3"):
        image_map(vectors[:3], method)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"method must be one of .*'PCA'.*got 'other'"):
        image_map(np.ones((3, 2)), "other")
    for function in (image_map, by_similarity, main_direction, average_linkage):
        with pytest.raises(ValueError, match=r"vectors must be \(N, D\)"):
            function(np.ones(3))
