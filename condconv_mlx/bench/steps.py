"""One step of training, as the training and the memory table take it, and the small network of the first."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from condconv_mlx.bench.cases import TrainingCase
from condconv_mlx.bench.timing import Work
from condconv_mlx.layers import CondConv2d
from condconv_mlx.static_layers import BatchNorm, Conv2d, ReLU


def training_step(model: nn.Module, images: mx.array, labels: mx.array) -> Work:
    """A step of SGD with momentum on cross entropy; images (N, H, W, C), labels (N,)."""
    optimizer = optim.SGD(0.01, momentum=0.9)
    optimizer.init(model.trainable_parameters())
    model.train()

    def loss(images: mx.array, labels: mx.array) -> mx.array:
        return nn.losses.cross_entropy(model(images), labels, reduction="mean")

    value_and_grad = nn.value_and_grad(model, loss)

    def step(images: mx.array, labels: mx.array) -> mx.array:
        value, gradients = value_and_grad(images, labels)
        optimizer.update(model, gradients)
        return value

    # As in the trainer: on a CPU, compiling needs a C++ compiler and gains nothing.
    state = [model.state, optimizer.state]
    run = mx.compile(step, inputs=state, outputs=state) if mx.default_device() != mx.cpu else step
    mx.eval(model.state, images, labels)
    return lambda: mx.eval(run(images, labels), model.state, optimizer.state)


class Network(nn.Module):
    """x (N, size, size, Cin) -> logits (N, classes), see `TrainingCase`. Each CondConv layer has its own router."""

    def __init__(self, case: TrainingCase):
        super().__init__()
        (first_in, first_out, first_stride), *rest = case.convolutions
        self.convolutions = [
            Conv2d(first_in, first_out, 3, first_stride, 1, bias=False),
            *[CondConv2d(cin, out, 3, case.experts, stride, 1, bias=False) for cin, out, stride in rest],
        ]
        self.norms = [BatchNorm(out) for _, out, _ in case.convolutions]
        self.relu = ReLU()
        self.classifier = nn.Linear(case.convolutions[-1][1], case.classes)

    def __call__(self, x: mx.array) -> mx.array:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = self.relu(norm(convolution(x)))
        return self.classifier(x.mean(axis=(1, 2)))


def condconv_step(case: TrainingCase) -> Work:
    """A training step of our network on noise."""
    channels = case.convolutions[0][0]
    images = mx.random.normal((case.batch, case.size, case.size, channels))
    return training_step(Network(case), images, mx.random.randint(0, case.classes, (case.batch,)))
