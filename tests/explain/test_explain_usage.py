"""Numbers of a router's weights, against what follows by hand."""

import numpy as np
import pytest

from condconv_mlx.explain import usage


def test_all_alike():
    found = usage(np.full((5, 4), 0.5, dtype=np.float32))
    assert found.entropy == pytest.approx(1) and found.saturated == 0 and found.deviation == 0
    assert found.experts == (0.5,) * 4


def test_one_expert_an_image():
    found = usage(np.eye(4)[[0, 1, 1, 3]])
    assert found.entropy == 0 and found.saturated == 1
    assert found.experts == (0.25, 0.5, 0, 0.25)
    assert found.deviation == pytest.approx(np.mean([np.sqrt(3) / 4, 0.5, 0, np.sqrt(3) / 4]))


def test_two_of_four():
    assert usage(np.array([[0.9, 0.9, 0, 0], [0, 0.3, 0.3, 0]])).entropy == pytest.approx(0.5)
    assert usage(np.array([[0.9, 0.04, 0.96, 0.5]])).saturated == 0.5


def test_nothing_at_all_and_a_single_expert():
    assert usage(np.zeros((3, 2))).entropy == 0
    assert usage(np.ones((3, 1))).entropy == 0


@pytest.mark.parametrize("shape", [(4,), (0, 4), (3, 0), (2, 2, 2)])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"\[usage\] weights must be \(N, E\)"):
        usage(np.zeros(shape))
