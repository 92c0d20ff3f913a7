"""What experts are for, against plain loops."""

import numpy as np
import pytest

from condconv_mlx.explain import class_means, portraits, separation

RNG = np.random.default_rng(1)
WEIGHTS = RNG.random((60, 4)).astype(np.float32)
CLASSES = RNG.choice([0, 1, 2, 4], 60)


def test_means_of_each_class() -> None:
    found = class_means(WEIGHTS, CLASSES, 6)
    assert found.shape == (6, 4)
    for label in range(6):
        for expert in range(4):
            mine = [float(WEIGHTS[n, expert]) for n in range(60) if CLASSES[n] == label]
            wanted = sum(mine) / len(mine) if mine else np.nan
            np.testing.assert_allclose(found[label, expert], wanted, rtol=1e-6)
    assert np.isnan(found[[3, 5]]).all() and class_means(WEIGHTS, CLASSES).shape == (5, 4)


def test_share_between_classes() -> None:
    found = separation(WEIGHTS, CLASSES)
    between, total = np.zeros(4), np.zeros(4)
    for expert in range(4):
        column = [float(value) for value in WEIGHTS[:, expert]]
        mean = sum(column) / 60
        for n, value in enumerate(column):
            same = [column[m] for m in range(60) if CLASSES[m] == CLASSES[n]]
            between[expert] += (sum(same) / len(same) - mean) ** 2
            total[expert] += (value - mean) ** 2
    np.testing.assert_allclose(found.experts, between / total, rtol=1e-6)
    assert found.router == pytest.approx(between.sum() / total.sum(), rel=1e-6)
    assert found.chance == pytest.approx(3 / 59)


def test_separation_of_extremes() -> None:
    classes = np.repeat([0, 7], 50)
    weights = np.stack([classes / 7, np.tile([0.2, 0.8], 50), np.full(100, 0.3)], axis=1)
    np.testing.assert_allclose(separation(weights, classes).experts, [1, 0, 0], atol=1e-12)
    assert separation(np.full((5, 2), 0.1, np.float32), np.zeros(5, int)).router == 0
    assert separation(np.ones((1, 2)), np.zeros(1, int)).chance == 0


def test_chance_is_what_noise_gives() -> None:
    rng = np.random.default_rng(0)
    draws = [separation(rng.random((30, 8)), rng.integers(0, 10, 30)) for _ in range(200)]
    assert np.mean([draw.router for draw in draws]) == pytest.approx(np.mean([draw.chance for draw in draws]), abs=0.02)


def test_portraits_name_who_calls_on_an_expert() -> None:
    found = portraits(WEIGHTS, CLASSES, top=3)
    assert len(found) == 4
    means = class_means(WEIGHTS, CLASSES)
    for expert, portrait in enumerate(found):
        assert portrait.mean == pytest.approx(float(WEIGHTS[:, expert].mean()))
        best = sorted(range(60), key=lambda n: -WEIGHTS[n, expert])[:3]
        assert [n for n, _ in portrait.images] == best
        assert [weight for _, weight in portrait.images] == [float(WEIGHTS[n, expert]) for n in best]
        labels = sorted((0, 1, 2, 4), key=lambda label: -means[label, expert])[:3]
        assert [label for label, _ in portrait.classes] == labels
        assert [mean for _, mean in portrait.classes] == [float(means[label, expert]) for label in labels]


@pytest.mark.parametrize("function", [class_means, separation, portraits])
def test_wrong_arguments(function) -> None:
    with pytest.raises(ValueError, match=rf"\[{function.__name__}\] weights must be \(N, E\).*\(60, 4\) and \(59,\)"):
        function(WEIGHTS, CLASSES[:-1])
    with pytest.raises(ValueError, match="integers from 0"):
        function(WEIGHTS, CLASSES - 1)
    with pytest.raises(ValueError, match="integers from 0"):
        function(WEIGHTS, CLASSES.astype(float))
    with pytest.raises(ValueError, match="below 4, got 4"):
        class_means(WEIGHTS, CLASSES, 4)
