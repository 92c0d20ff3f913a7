"""The layer against timm's CondConv2d in torch: the same experts and routing weights, outputs and gradients.

Skipped without torch and timm, which are no dependencies of ours.
"""

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx import CondConv2d
from condconv_mlx.bench.peers import without_torchvision_operators

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def timm_layer():
    with without_torchvision_operators(torch):
        return pytest.importorskip("timm.layers").CondConv2d


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "dilation", "groups"),
    [
        ((4, 6), 3, 1, 1, 1, 1),
        ((4, 6), 3, 2, 1, 1, 1),
        ((4, 6), 1, 1, 0, 1, 1),
        ((4, 6), 5, 2, "same", 1, 1),
        ((4, 6), 3, 1, 2, 2, 2),
        ((6, 6), 3, 2, 1, 1, 6),
    ],
)
def test_outputs_and_gradients(timm_layer, channels, kernel, stride, padding, dilation, groups):
    rng = np.random.default_rng(0)
    experts, n, size = 4, 3, (9, 10)
    theirs = timm_layer(*channels, kernel, stride, padding, dilation, groups, bias=True, num_experts=experts)
    ours = CondConv2d(*channels, kernel, experts, stride, padding, dilation, groups, router=False)

    x = rng.standard_normal((n, *size, channels[0])).astype(np.float32)
    routing = rng.uniform(size=(n, experts)).astype(np.float32)
    bias = rng.standard_normal((experts, channels[1])).astype(np.float32)
    ours.bias = mx.array(bias)
    weight = np.array(ours.weight).transpose(0, 1, 4, 2, 3).reshape(experts, -1)  # timm: (E, O·I·kh·kw)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(weight))
        theirs.bias.copy_(torch.tensor(bias))

    torch_x = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    torch_routing = torch.tensor(routing, requires_grad=True)
    wanted = theirs(torch_x, torch_routing)
    cotangent = rng.standard_normal(wanted.shape).astype(np.float32)
    wanted.backward(torch.tensor(cotangent))

    def call(x, routing, weight, bias):
        ours.update({"weight": weight, "bias": bias})
        return ours(x, routing)

    (output,), gradients = mx.vjp(
        call,
        [mx.array(x), mx.array(routing), ours.weight, ours.bias],
        [mx.array(cotangent.transpose(0, 2, 3, 1))],
    )
    pairs = [
        (output, wanted.detach().numpy().transpose(0, 2, 3, 1)),
        (gradients[0], torch_x.grad.numpy().transpose(0, 2, 3, 1)),
        (gradients[1], torch_routing.grad.numpy()),
        (
            gradients[2],
            theirs.weight.grad.numpy()
            .reshape(experts, channels[1], channels[0] // groups, kernel, kernel)
            .transpose(0, 1, 3, 4, 2),
        ),
        (gradients[3], theirs.bias.grad.numpy()),
    ]
    for got, want in pairs:
        assert got.shape == want.shape
        assert np.abs(np.array(got) - want).max() <= 2e-5 * max(1.0, np.abs(want).max())
