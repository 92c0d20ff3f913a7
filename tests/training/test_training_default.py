"""What the settings give by default, written out as one loop: the shipped weights rest on it to the bit."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from training_material import fresh

from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.data import normalise, statistics
from condconv_mlx.training import TrainingSettings, train
from condconv_mlx.training.whitening import whiten


def flipped_and_shifted(images, rng, shift):
    count, height, width, _ = images.shape
    down = rng.integers(-shift, shift + 1, (count, 1))
    right = rng.integers(-shift, shift + 1, (count, 1))
    flip = rng.random(count) < 0.5
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="reflect")
    moved = []
    for image, row, column, mirrored in zip(padded, down[:, 0] + shift, right[:, 0] + shift, flip, strict=True):
        cut = image[row : row + height, column : column + width]
        moved.append(cut[:, ::-1] if mirrored else cut)
    return np.stack(moved)


def plain_loop(model, dataset, epochs, batch, holdout, rate, seed):
    order = np.random.default_rng([seed, 0]).permutation(len(dataset.train_images))
    kept = order[holdout:]
    mean, std = statistics(dataset.train_images[kept])
    per_epoch = len(kept) // batch
    whiten(model.stem, normalise(dataset.train_images[kept[:2000]], mean, std))
    rising = optim.linear_schedule(rate / per_epoch, rate, per_epoch)
    falling = optim.cosine_decay(rate, (epochs - 1) * per_epoch)
    schedule = optim.join_schedules([rising, falling], [per_epoch])
    optimizer = optim.SGD(schedule, momentum=0.9, weight_decay=5e-4, nesterov=True)
    optimizer.init(model.trainable_parameters())
    loss_and_gradients = nn.value_and_grad(
        model, lambda x, y: nn.losses.cross_entropy(model(x), y, label_smoothing=0.1, reduction="mean")
    )
    for step in range(epochs * per_epoch):
        model.train()
        epoch, place = divmod(step, per_epoch)
        shuffled = np.random.default_rng([seed, 1, epoch]).permutation(kept)
        chosen = shuffled[place * batch : (place + 1) * batch]
        rng = np.random.default_rng([seed, 2, step])
        images = flipped_and_shifted(dataset.train_images[chosen], rng, 2)
        mx.random.seed(int(rng.integers(2**31)))
        _, gradients = loss_and_gradients(
            mx.array(normalise(images, mean, std)), mx.array(dataset.train_labels[chosen])
        )
        optimizer.update(model, gradients)
        mx.eval(model.state, optimizer.state)


@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="to the bit on a CPU alone")
def test_the_defaults_are_these(dataset, tmp_path):
    mine, plain = fresh(router_dropout=0.3), fresh(router_dropout=0.3)
    train(mine, dataset, tmp_path, TrainingSettings(epochs=3, batch_size=16, holdout=16, seed=5))
    plain_loop(plain, dataset, 3, 16, 16, 0.1, 5)
    for name, value in named_arrays(plain).items():
        assert np.array_equal(np.array(named_arrays(mine)[name]), np.array(value)), name
