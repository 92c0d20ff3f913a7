"""One step of training, as the training and the memory table take it."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from condconv_mlx.bench.timing import Work


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
