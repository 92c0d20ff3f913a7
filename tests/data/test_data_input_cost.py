"""What the input pipeline is said to cost, by a clock that the test sets."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx.data import folder, input_cost, load_folder
from condconv_mlx.data.augmentation import Augmentation


@pytest.mark.parametrize("streamed", [False, True])
def test_the_share_is_what_the_clock_says(
    streamed: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if streamed:
        monkeypatch.setattr(folder, "IN_MEMORY", 1000)
    dataset = load_folder(pictures, tmp_path, progress=False)
    now = 0.0
    seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    prepare = input_cost.augment_batch

    def slow_at_first(*arguments: object) -> tuple[mx.array, mx.array]:
        nonlocal now
        now += 0.001 if len(seen) >= input_cost.WARM else 7
        return prepare(*arguments)  # type: ignore[arg-type]

    def train(inputs: mx.array, targets: mx.array) -> None:
        nonlocal now
        now += 0.039 if len(seen) >= input_cost.WARM else 3
        seen.append((inputs.shape, targets.shape))
        assert abs(np.array(inputs).mean()) < 0.3

    monkeypatch.setattr(input_cost, "perf_counter", lambda: now)
    monkeypatch.setattr(input_cost, "augment_batch", slow_at_first)
    found = input_cost.input_cost(dataset, Augmentation(mixup=0.2), train, batch_size=16, steps=5)
    assert seen == [((16, 28, 28, 3), (16, 2))] * (5 + input_cost.WARM)
    assert (round(found.input_ms, 6), round(found.training_ms, 6)) == (1, 39)
    assert round(found.share, 6) == 1 / 40
