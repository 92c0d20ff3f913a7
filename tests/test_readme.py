"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_some():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_it_runs(number, capsys):
    exec(compile(EXAMPLES[number], "README.md", "exec"), {})


def test_the_converted_model_of_the_example_and_the_folded_one_compute_the_same():
    import mlx.core as mx
    import mlx.nn as nn

    from condconv_mlx import CondConv2d

    (example,) = [text for text in EXAMPLES if "condconvert(" in text]
    assert sum(bool(line.strip()) for line in example.splitlines()) <= 10
    found: dict = {}
    exec(compile(example, "README.md", "exec"), found)
    model, conditional, static, image = (found[name] for name in ("model", "conditional", "static", "image"))
    for other in (conditional, static):
        assert mx.abs(other(image) - model(image)).max() <= 1e-4 * mx.abs(model(image)).max()
    assert [type(layer) for layer in conditional.layers[2:]] == [CondConv2d, nn.Conv2d]
    assert type(static.layers[0]) is type(static.layers[2]) is nn.Conv2d
