"""Counting, against sums made by hand."""

import mlx.core as mx
import mlx.nn as nn
import pytest

from condconv_mlx import CondConv1d, CondConv2d, CondLinear, create_model
from condconv_mlx.complexity import by_kind, count, count_parameters


@pytest.mark.parametrize(
    "layer, shape, madds, params",
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (9, 7, 3), 5 * 4 * 8 * 3 * 9, 8 * 27 + 8),
        (nn.Conv2d(6, 6, 5, groups=6, bias=False), (9, 9, 6), 5 * 5 * 6 * 25, 6 * 25),
        (nn.Conv1d(4, 6, 3, padding=1), (10, 4), 10 * 6 * 12, 6 * 12 + 6),
        (nn.Linear(5, 7), (5,), 35, 42),
        (nn.Linear(5, 7), (3, 5), 105, 42),
        # 4 experts: the convolution, 4 multiply-adds a parameter of the kernel, and the router's product.
        (CondConv2d(3, 8, 3, 4, padding=1, bias=False), (6, 6, 3), 36 * 216 + 4 * 216 + 12, 4 * 216 + 12 + 4),
        (CondConv2d(6, 6, 3, 2, groups=6), (5, 5, 6), 9 * 54 + 2 * (54 + 6) + 12, 2 * (54 + 6) + 12 + 2),
        (CondConv1d(4, 6, 3, 2, router=True), (10, 4), 8 * 72 + 2 * (72 + 6) + 8, 2 * (72 + 6) + 8 + 2),
        (CondLinear(5, 7, 3), (5,), 35 + 3 * (35 + 7) + 15, 3 * (35 + 7) + 15 + 3),
        (nn.BatchNorm(4), (6, 4), 0, 8),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_by_hand(layer, shape, madds, params):
    counted = count(layer, shape)
    assert (counted.madds, counted.params) == (madds, params)
    assert sum(row.madds for row in counted.layers) == madds and sum(row.params for row in counted.layers) == params


class Twice(nn.Module):
    """Uses one layer twice, and another never."""

    def __init__(self):
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.again = self.used
        self.unused = nn.Linear(4, 9)

    def __call__(self, x):
        return self.used(self.again(x))


def test_shared_and_unused_layers():
    counted = count(Twice(), (4,))
    assert counted.madds == 32 and counted.params == 20 + 45
    assert [(row.name, row.madds, row.output_shape) for row in counted.layers][1] == ("unused", 0, ())
    assert counted.layers[0].madds == 32 and counted.layers[0].params == 20


def test_leaves_the_model_as_it_was():
    model = create_model("condconv_small", width=4)
    model.blocks[0].freeze()
    classes = [type(module) for module in model.modules()]
    counted = count(model, (32, 32, 3))
    assert [type(module) for module in model.modules()] == classes and model.training
    assert next(row for row in counted.layers if row.name == "stem").output_shape == (32, 32, 4)
    # Freezing changes neither.
    fresh = count(create_model("condconv_small", width=4), (32, 32, 3))
    assert (counted.madds, counted.params) == (fresh.madds, fresh.params)
    assert counted.params == count_parameters(model)
    rows = [row.name for row in counted.layers]
    assert rows.index("stem") < rows.index("blocks.1.conv1") < rows.index("classifier")


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 5), (0, 32, 3), ("a",)])
def test_wrong_inputs(shape):
    model = create_model("condconv_small", width=4)
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=r"\[count\]"):
        count(model, shape)
    assert [type(module) for module in model.modules()] == classes and mx.array(model.training).item()


def test_kinds_of_layers_by_hand():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.norm = nn.BatchNorm(8)
            self.deep = CondConv2d(8, 6, 3, 4, padding=1, bias=False)
            self.head = nn.Linear(6, 5)

        def __call__(self, x):
            return self.head(self.deep(self.norm(self.stem(x))).mean(axis=(1, 2)))

    costs = by_kind(Mixed(), (6, 6, 3))
    assert {kind: (cost.madds, cost.params) for kind, cost in costs.items()} == {
        "static layers": (36 * 8 * 27 + 30, 8 * 27 + 8 + 30 + 5),
        "layers with experts": (36 * 6 * 72, 4 * 6 * 72),
        "mixing kernels": (4 * 6 * 72, 0),
        "routers": (32, 32 + 4),
        "other layers": (0, 16),
    }


@pytest.mark.parametrize("name, experts", [("condconv_small", 8), ("condconv_small", None), ("efficientnet_b0", 4)])
def test_kinds_add_up(name, experts):
    model = create_model(name, num_classes=10, num_experts=experts)
    counted, costs = count(model, (32, 32, 3)), by_kind(model, (32, 32, 3)).values()
    assert (sum(cost.madds for cost in costs), sum(cost.params for cost in costs)) == (counted.madds, counted.params)
    # Mixing takes experts × the parameters of a kernel, which are those of all experts.
    experts = [row.params for row in counted.layers if row.kind.startswith("Cond")]
    assert sum(row.mixing for row in counted.layers) == sum(experts)
