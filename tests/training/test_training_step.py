"""One step: each option against the plain arithmetic that it stands for."""

import math
from contextlib import ExitStack

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten
from training_material import fresh

from condconv_mlx import CondConv2d, CondLinear, Router, load_model
from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.static_layers import BatchNorm, Conv2d, ReLU
from condconv_mlx.training import TrainingSettings, evaluate, read_log, train
from condconv_mlx.training.optimiser import average_weight, learning_rates, optimizer_for, temperature
from condconv_mlx.training.precision import float32_norms
from condconv_mlx.training.recomputing import recomputed_blocks
from condconv_mlx.training.routing import imbalance, mixing, recorded_routing, tempered
from condconv_mlx.training.run_folder import STATE
from condconv_mlx.training.step import step_function

SHORT = {"epochs": 2, "batch_size": 16, "holdout": 16, "shift": 1}


def batch(count=16, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, 28, 28, 1)).astype(np.float32)
    return mx.array(images), mx.array(rng.integers(0, 2, count))


def one_step(model, parts, settings=None, temperature=1.0, keep=0.0, average=None):
    """A step of SGD with rate 1 and no momentum, so that what it takes away is the gradient. Returns it by name."""
    settings = settings or TrainingSettings(label_smoothing=0.0)
    before = dict(tree_flatten(model.trainable_parameters()))
    optimizer = optim.SGD(1.0)
    optimizer.init(model.trainable_parameters())
    model.train()
    step = step_function(model, optimizer, {} if average is None else average, settings, compiled=False)
    loss, right = step(parts, temperature, keep)
    after = dict(tree_flatten(model.trainable_parameters()))
    return loss.item(), right.item(), {name: np.array(before[name] - after[name]) for name in before}


def close(mine, others, tolerance=1e-5):
    for name, value in others.items():
        scale = max(1e-3, np.abs(value).max())
        assert np.abs(mine[name] - value).max() <= tolerance * scale, name


class Plain(nn.Module):
    """Without batch normalisation, so that a batch is the sum of its parts."""

    def __init__(self, activation="sigmoid"):
        super().__init__()
        self.conv = CondConv2d(1, 8, 3, 4, stride=2, router=False)
        self.router = Router(1, 4, activation=activation)
        self.head = CondLinear(8, 2, 4)

    def __call__(self, x):
        x = nn.relu(self.conv(x, self.router(x)))
        return self.head(x.mean(axis=(1, 2)))


def plain(seed=0, **options):
    mx.random.seed(seed)
    return Plain(**options)


def test_parts_of_a_batch_give_the_gradient_of_the_whole():
    images, labels = batch()
    whole = one_step(plain(), [(images, labels)])
    parts = one_step(plain(), [(images[i : i + 4], labels[i : i + 4]) for i in range(0, 16, 4)])
    assert parts[0] == pytest.approx(whole[0], rel=1e-5) and parts[1] == whole[1]
    close(parts[2], whole[2])


def test_targets_may_be_shares_of_classes():
    images, labels = batch()
    shares = mx.array(np.eye(2, dtype=np.float32))[labels]
    hard, soft = (one_step(plain(), [(images, targets)]) for targets in (labels, shares))
    assert soft[:2] == pytest.approx(hard[:2], rel=1e-5)
    close(soft[2], hard[2])
    half = mx.full((16, 2), 0.5)
    logits = plain()(images)
    wanted = -(0.5 * (logits - mx.logsumexp(logits, axis=1, keepdims=True))).sum(axis=1).mean()
    assert one_step(plain(), [(images, half)])[0] == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("limit, share", [(0.1, None), (1e6, 1.0)])
def test_gradients_are_clipped_to_a_norm(limit, share):
    _, _, free = one_step(plain(), [batch()])
    _, _, clipped = one_step(plain(), [batch()], TrainingSettings(label_smoothing=0.0, clip=limit))
    norm = math.sqrt(sum((value**2).sum() for value in free.values()))
    assert norm > 0.1
    share = share or limit / norm
    close(clipped, {name: share * value for name, value in free.items()}, 1e-4)


def test_imbalance_is_the_squared_coefficient_of_variation():
    rng = np.random.default_rng(0)
    routing = [rng.random((16, 4)).astype(np.float32), rng.random((16, 2)).astype(np.float32)]
    usage = [weights.mean(axis=0) for weights in routing]
    wanted = np.mean([(mean.std() / mean.mean()) ** 2 for mean in usage])
    assert imbalance([mx.array(weights) for weights in routing]).item() == pytest.approx(wanted, rel=1e-5)
    assert imbalance([mx.full((5, 3), 0.7)]).item() == pytest.approx(0, abs=1e-7)
    assert imbalance([mx.array([[1.0, 0, 0, 0]] * 3)]).item() == pytest.approx(3)
    assert imbalance([]).item() == 0


def test_the_balance_loss_adds_up_and_reaches_the_routers():
    images, labels = batch()
    model = plain()
    with recorded_routing() as routing:
        model(images)
    assert [weights.shape for weights in routing] == [(16, 4), (16, 4)]
    without = one_step(plain(), [(images, labels)])
    balanced = one_step(plain(), [(images, labels)], TrainingSettings(label_smoothing=0.0, balance=0.5))
    assert balanced[0] - without[0] == pytest.approx(0.5 * imbalance(routing).item(), rel=1e-3)
    # Against the difference quotient of the loss by one weight of a router.
    name, place, width = "router.linear.weight", (1, 0), 1e-2
    losses = []
    for sign in (1, -1):
        moved = plain()
        weight = np.array(moved.router.linear.weight)
        weight[place] += sign * width
        moved.router.linear.weight = mx.array(weight)
        losses.append(one_step(moved, [(images, labels)], TrainingSettings(label_smoothing=0.0, balance=50.0))[0])
    wanted = (losses[0] - losses[1]) / (2 * width)
    strong = one_step(plain(), [(images, labels)], TrainingSettings(label_smoothing=0.0, balance=50.0))
    assert strong[2][name][place] == pytest.approx(wanted, rel=0.02)


def test_balance_evens_out_a_lopsided_router(dataset, tmp_path):
    spread = []
    for balance in (0.0, 5.0):
        model = fresh()
        # One expert is hardly ever used at first.
        model.classifier.router.linear.bias = mx.array([-3.0, 1.0])
        settings = TrainingSettings(**SHORT | {"epochs": 8}, balance=balance, learning_rate=0.05)
        train(model, dataset, tmp_path / str(balance), settings)
        first, second = read_log(tmp_path / str(balance)).epochs[-1]["routing"]["classifier.router"]["experts"]
        spread.append(abs(first - second))
    assert spread[1] < 0.5 * spread[0]


def test_temperature_falls_along_a_line():
    settings = TrainingSettings(temperature=30, temperature_epochs=10)
    assert [temperature(settings, step, 5) for step in (0, 25, 50, 400)] == [30, 15.5, 1, 1]
    assert temperature(TrainingSettings(), 7, 5) == 1


def test_a_high_temperature_evens_out_softmax_routing():
    model = plain(activation="softmax")
    model.router.linear.weight = model.router.linear.weight * 50
    images, labels = batch()
    settings = TrainingSettings(label_smoothing=0.0, temperature=30, temperature_epochs=1)
    cooled = plain(activation="softmax")
    cooled.router.linear.weight = model.router.linear.weight
    cooled.router.temperature = cooled.head.router.temperature = 30.0
    wanted = one_step(cooled, [(images, labels)])
    mine = one_step(model, [(images, labels)], settings, temperature=30.0)
    assert mine[0] == pytest.approx(wanted[0], rel=1e-6)
    close(mine[2], wanted[2])
    assert model.router.temperature == 1.0
    with tempered(model, 5.0):
        assert model.router.temperature == 5.0


@pytest.mark.parametrize("what, strategies", [("kernels", {"unfold", "shift"}), ("outputs", {"outputs"})])
def test_both_ways_of_mixing_give_the_same_step(what, strategies):
    mx.random.seed(0)
    model = nn.Sequential(
        CondConv2d(1, 8, 3, 2), CondConv2d(8, 8, 3, 2, groups=8), lambda x: x.mean(axis=(1, 2))[:, :2]
    )
    wanted = one_step(model, [batch()])
    mx.random.seed(0)
    model = nn.Sequential(
        CondConv2d(1, 8, 3, 2), CondConv2d(8, 8, 3, 2, groups=8), lambda x: x.mean(axis=(1, 2))[:, :2]
    )
    with mixing(model, what):
        assert {layer.strategy for layer in model.layers[:2]} == strategies
        mine = one_step(model, [batch()])
    assert {layer.strategy for layer in model.layers[:2]} == {"auto"}
    close(mine[2], wanted[2], 1e-4)


def test_recomputed_blocks_give_the_same_step():
    images, labels = batch()
    settings = TrainingSettings(label_smoothing=0.0, balance=0.1)
    whole, again = fresh(), fresh()
    wanted = one_step(whole, [(images, labels)], settings)
    with recomputed_blocks(again):
        mine = one_step(again, [(images, labels)], settings)
    assert mine[:2] == pytest.approx(wanted[:2], rel=1e-6)
    close(mine[2], wanted[2])
    for name, value in named_arrays(whole).items():
        if "running" in name:
            assert np.allclose(np.array(value), np.array(named_arrays(again)[name]), rtol=1e-5), name
    assert type(again.blocks[0]) is type(whole.blocks[0]) and type(again.blocks[1].router.dropout) is nn.Dropout


def test_recomputed_blocks_drop_the_same_routing_weights_twice():
    """The gradient is that of what was computed, not of another draw: the loss rises by it."""
    images, labels = batch()

    def step(moved=None):
        model = fresh(router_dropout=0.5)
        if moved is not None:
            model.blocks[1].router.linear.weight = model.blocks[1].router.linear.weight + moved
        mx.random.seed(7)
        with recomputed_blocks(model):
            loss, _, gradients = one_step(model, [(images, labels)])
        return loss, gradients["blocks.1.router.linear.weight"]

    _, gradient = step()
    norm = np.linalg.norm(gradient)
    (above, _), (below, _) = (step(mx.array(width * gradient / norm)) for width in (0.01, -0.01))
    assert norm > 1e-4 and (above - below) / 0.02 == pytest.approx(norm, rel=0.05)


class Deep(nn.Module):
    """Twelve blocks of one shape, each of which computes a good deal on the way."""

    def __init__(self):
        super().__init__()
        self.blocks = [
            nn.Sequential(*(layer for _ in range(3) for layer in (Conv2d(8, 8, 3, padding=1), BatchNorm(8), ReLU())))
            for _ in range(12)
        ]

    def __call__(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x.mean(axis=(1, 2))


def test_recomputed_blocks_take_less_memory():
    mx.random.seed(0)
    model = Deep()
    optimizer = optim.SGD(0.1)
    optimizer.init(model.trainable_parameters())
    part = (mx.random.normal((16, 16, 16, 8)), mx.zeros(16, dtype=mx.int32))
    mx.eval(model.parameters(), part)
    peaks = []
    for again in (False, True):
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        with ExitStack() as stack:
            if again:
                stack.enter_context(recomputed_blocks(model))
            step = step_function(model, optimizer, {}, TrainingSettings(), compiled=False)
            mx.eval(step([part], 1.0, 0.0), model.state, optimizer.state)
        peaks.append(mx.get_peak_memory() - before)
    assert peaks[1] < 0.7 * peaks[0]


def test_only_a_network_with_blocks_can_recompute_them():
    with pytest.raises(ValueError, match="no list of blocks"), recomputed_blocks(plain()):
        pass


def test_bfloat16_loses_what_its_roundings_must_and_leaves_float32_weights(monkeypatch):
    images, labels = batch()
    exact, half = fresh(), fresh()
    wanted = one_step(exact, [(images, labels)])
    with float32_norms(half):
        mine = one_step(half, [(images, labels)], TrainingSettings(label_smoothing=0.0, precision="bfloat16"))
    assert mine[0] != wanted[0] and mine[0] == pytest.approx(wanted[0], rel=0.02)
    assert {value.dtype for value in named_arrays(half).values()} == {mx.float32}

    def rounded(x):  # as a number; the gradient goes through
        return x + mx.stop_gradient(x.astype(mx.bfloat16).astype(mx.float32) - x)

    # float32, but what goes into layers and comes out is rounded. Roundings add up, and decide which of several values
    # is the maximum.
    for layer in (Conv2d, CondConv2d, BatchNorm):
        call = layer.__call__
        monkeypatch.setattr(layer, "__call__", lambda self, x, *rest, call=call: rounded(call(self, rounded(x), *rest)))
    least = one_step(fresh(), [(images, labels)])

    def error(gradient, name):
        a, b = gradient[2][name].ravel(), wanted[2][name].ravel()
        return 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    for name in ("stem.weight", "blocks.0.conv1.weight", "blocks.1.conv1.weight", "classifier.weight"):
        assert error(mine, name) < min(0.05, 2 * error(least, name) + 0.001), name
    for name, value in named_arrays(exact).items():
        if "running" in name:
            assert np.allclose(np.array(value), np.array(named_arrays(half)[name]), rtol=0.05, atol=0.02), name


def test_the_moving_average_follows_every_array():
    model = fresh()
    average = dict(named_arrays(model))
    before = {name: np.array(value) for name, value in average.items()}
    one_step(model, [batch()], average=average, keep=0.75)
    for name, value in named_arrays(model).items():
        assert np.allclose(np.array(average[name]), 0.75 * before[name] + 0.25 * np.array(value), atol=1e-6), name
    assert [average_weight(0.5, step) for step in (0, 1, 100)] == [0.1, 2 / 11, 0.5]


def test_the_saved_model_is_the_average_and_was_measured(dataset, tmp_path):
    model = fresh()
    train(model, dataset, tmp_path, TrainingSettings(**SHORT | {"holdout": 0}, ema=0.9))
    state = mx.load(str(tmp_path / STATE))
    best = load_model(tmp_path / "best.safetensors")
    saved, last = np.array(best.stem.weight), np.array(model.stem.weight)
    averaged = np.array(state["average.stem.weight"].astype(mx.float16).astype(mx.float32))
    assert np.array_equal(saved, averaged) and not np.allclose(saved, last, atol=1e-3)
    assert np.array_equal(np.array(state["model.stem.weight"]), last)
    assert np.array_equal(np.array(best.norm.running_var), np.array(state["average.norm.running_var"]))
    assert evaluate(best, dataset.test_images, dataset.test_labels, best.info["input"]).count == 40


@pytest.mark.parametrize("name, momentum", [("sgd", 0.9), ("adamw", None)])
def test_biases_and_norms_do_not_decay(name, momentum):
    model = fresh()
    settings = TrainingSettings(optimizer=name, weight_decay=0.1, decay="kernels", warmup=0, learning_rate=0.5)
    optimizer = optimizer_for(settings, 10, 5)
    parameters = model.trainable_parameters()
    optimizer.init(parameters)
    before = {key: np.array(value) for key, value in tree_flatten(parameters)}
    nothing = {key: mx.zeros(value.shape) for key, value in before.items()}
    from mlx.utils import tree_unflatten

    optimizer.update(model, tree_unflatten(list(nothing.items())))
    after = {key: np.array(value) for key, value in tree_flatten(model.trainable_parameters())}
    still = {key for key in before if np.array_equal(before[key], after[key]) and before[key].any()}
    moved = {key for key in before if not np.array_equal(before[key], after[key])}
    assert moved == {key for key in before if key.endswith("weight") and "norm" not in key}
    assert {"norm.weight", "blocks.0.norm1.weight", "blocks.1.router.linear.bias"} <= still
    everything = TrainingSettings(optimizer=name, weight_decay=0.1, warmup=0)
    assert not isinstance(optimizer_for(everything, 10, 5), optim.MultiOptimizer)


def test_one_cycle_rises_and_falls_as_pytorch_has_it():
    settings = TrainingSettings(schedule="one-cycle", learning_rate=0.1)
    schedule = learning_rates(settings, 11, 5)
    rates = [schedule(mx.array(step)).item() for step in range(11)]
    # torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=11), written out.
    top, last = 0.3 * 11 - 1, 10

    def along(start, end, share):
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    wanted = [
        along(0.004, 0.1, step / top) if step <= top else along(0.1, 0.004 / 1e4, (step - top) / (last - top))
        for step in range(11)
    ]
    assert rates == pytest.approx(wanted, rel=1e-4, abs=1e-7)
    assert rates[0] == pytest.approx(0.004) and max(rates) > 0.09 and rates[-1] < 1e-6


def test_all_of_it_together_trains_and_resumes_to_the_bit(dataset, tmp_path):
    settings = TrainingSettings(
        **SHORT,
        optimizer="adamw",
        learning_rate=0.01,
        schedule="one-cycle",
        decay="kernels",
        clip=1.0,
        ema=0.9,
        balance=0.01,
        temperature=10,
        temperature_epochs=1,
        mixing="outputs",
        precision="bfloat16",
        accumulate=2,
        checkpointing=True,
        mixup=0.2,
        cutmix=1.0,
    )
    whole, parts = fresh(router_dropout=0.2), fresh(router_dropout=0.2)
    train(whole, dataset, tmp_path / "whole", settings)

    def interrupt(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(parts, dataset, tmp_path / "parts", settings, on_progress=interrupt)
    resumed = fresh(seed=9, router_dropout=0.2)
    train(resumed, dataset, tmp_path / "parts", settings, resume=True)
    for name, value in named_arrays(whole).items():
        other = np.array(named_arrays(resumed)[name])
        same = np.array_equal if mx.default_device() == mx.cpu else lambda a, b: np.allclose(a, b, atol=1e-2)
        assert same(np.array(value), other), name
