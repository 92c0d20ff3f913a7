"""Augmentation of whole batches in MLX, from random numbers drawn on the host.

Every draw comes from one NumPy generator and for the whole batch, so that a run is the same whatever the device, and
however many processes share a batch. In the order in which they are applied:

- flip and shift: mirrored left to right, moved by some pixels, the edges mirrored;
- policy: operations chosen at random, see `policy` (RandAugment, Cubuk et al., arXiv 1909.13719);
- jitter: brightness, contrast and saturation, then hue;
- cutout: a hidden square (DeVries and Taylor, arXiv 1708.04552);
- `normalised`;
- mixup (Zhang et al., arXiv 1710.09412) or cutmix (Yun et al., arXiv 1905.04899) with the next image of the batch, the
  last with the first. The batch is in random order, so that is a partner at random, and a process that computes a part
  of a batch wants one image more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from condconv_mlx.data import policy
from condconv_mlx.data.batches import normalised

# Draws by name, each with the batch as its first axis.
Draws = dict[str, np.ndarray]


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images. The default for each kind but flip and shift is nothing.

    Attributes:
        flip: mirror half of the images left to right.
        shift: pixels, at most, up or down and left or right.
        cutout: side in pixels of the square about a random pixel that becomes the mean colour; may stick out.
        mixup: alpha of Beta(alpha, alpha), from which each image's own share of the mixture is drawn.
        cutmix: alpha of Beta(alpha, alpha), from which the share of the area that it keeps is drawn. With mixup too,
            each image gets one of them.
        jitter: s in [0, 1]: brightness, contrast and saturation are each multiplied by a factor from 1 - s to 1 + s.
        hue: h in [0, 0.5]: hues move round the circle of colours by up to h of a turn, either way.
        policy: how many operations of `policy.OPERATIONS` are applied to each image.
        magnitude: their strength, from 0 to 30.
    """

    flip: bool = True
    shift: int = 2
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    jitter: float = 0.0
    hue: float = 0.0
    policy: int = 0
    magnitude: float = 9.0

    def __post_init__(self) -> None:
        for name in ("shift", "cutout", "mixup", "cutmix", "policy"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, got {self.jitter}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue must be from 0 to 0.5, got {self.hue}")
        if not 0 <= self.magnitude <= policy.STRONGEST:
            raise ValueError(f"magnitude must be from 0 to {policy.STRONGEST}, got {self.magnitude}")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others, so that targets are shares of classes."""
        return self.mixup > 0 or self.cutmix > 0

    def positions(self, count: int, part: slice | None = None) -> np.ndarray:
        """Which images of a batch of `count` are wanted to augment those of `part`: theirs, and what they mix with.

        Sorted, each once; all of them where `part` is None.
        """
        own = np.arange(count)[part or slice(None)]
        return np.union1d(own, (own + 1) % count) if self.mixes else own


def augment_batch(
    images: mx.array,
    labels: mx.array,
    classes: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    mean: Sequence[float],
    std: Sequence[float],
    part: slice | None = None,
) -> tuple[mx.array, mx.array]:
    """Augment and normalise a batch, or the part of it that one process trains on.

    All processes give the same `labels` and a generator in the same state, which all leave in the same state; what they
    get for their parts is, one after the other, what one process would get for the whole. Compiled, all batches would
    have the draws of the first.

    Args:
        images: (M, H, W, C) uint8, those of the batch that `augmentation.positions(N, part)` names; C is 1 or 3.
        labels: (N,) integers, of the whole batch.
        classes: how many there are.
        augmentation: what to do.
        rng: where all random numbers come from.
        mean: of each channel, on the scale [0, 1], see `normalise`; also the colour of what is hidden or moved in.
        std: of each channel.
        part: of the batch, P images; all by default.

    Returns:
        Inputs (P, H, W, C) float32; and targets: (P,) the labels, or (P, classes) float32 if the augmentation mixes.

    Raises:
        ValueError: if the shapes do not fit each other, or the shift is no smaller than the images.
    """
    if images.ndim != 4 or images.dtype != mx.uint8:
        raise ValueError(f"images must be uint8 of shape (N, H, W, C), got {images.dtype} of shape {images.shape}")
    count = len(labels)
    positions = augmentation.positions(count, part)
    if len(images) != len(positions):
        raise ValueError(f"{len(positions)} images of the batch of {count} are wanted, got {len(images)}")
    _, height, width, _ = images.shape
    drawn = {name: values[positions] for name, values in _draw(augmentation, rng, count, height, width).items()}
    inputs = _augmented(images, augmentation, drawn, mean, std)
    own = np.arange(count)[part or slice(None)]
    if not augmentation.mixes:
        return inputs, labels[mx.array(own)]
    partner = (own + 1) % count
    place, other = (np.searchsorted(positions, chosen) for chosen in (own, partner))
    drawn = {name: values[place] for name, values in drawn.items()}
    shares, kept = _shares(drawn, height, width)
    mixed = shares * inputs[mx.array(place)] + (1 - shares) * inputs[mx.array(other)]
    first, second = (_one_hot(labels[mx.array(chosen)], classes) for chosen in (own, partner))
    return mixed, kept * first + (1 - kept) * second


def _draw(augmentation: Augmentation, rng: np.random.Generator, count: int, height: int, width: int) -> Draws:
    """All random numbers of a batch. What is drawn first must stay first: the runs of shipped weights rest on it."""
    shift = augmentation.shift
    if shift >= min(height, width):
        raise ValueError(f"shift must be from 0 to {min(height, width) - 1} for {height}×{width} images, got {shift}")
    drawn: Draws = {
        "rows": np.arange(height) + rng.integers(-shift, shift + 1, (count, 1)),
        "columns": np.arange(width) + rng.integers(-shift, shift + 1, (count, 1)),
    }
    if augmentation.flip:
        flipped = rng.random(count) < 0.5
        drawn["columns"][flipped] = drawn["columns"][flipped, ::-1]
    if augmentation.cutout:
        for name, length in (("hidden_rows", height), ("hidden_columns", width)):
            first = rng.integers(0, length, (count, 1)) - augmentation.cutout // 2
            drawn[name] = _between(length, first, first + augmentation.cutout)
    if augmentation.policy:
        drawn["operations"] = rng.integers(0, len(policy.OPERATIONS), (count, augmentation.policy))
        drawn["signs"] = rng.choice((-1, 1), (count, augmentation.policy))
    if augmentation.jitter:
        drawn["factors"] = rng.uniform(1 - augmentation.jitter, 1 + augmentation.jitter, (count, 3))
    if augmentation.hue:
        drawn["turns"] = rng.uniform(-augmentation.hue, augmentation.hue, count)
    return drawn | _draw_mixing(augmentation, rng, count, height, width)


def _draw_mixing(augmentation: Augmentation, rng: np.random.Generator, count: int, height: int, width: int) -> Draws:
    """`share` (N,) that each image keeps, and `box_rows` (N, H) and `box_columns` (N, W) that it does not."""
    if not augmentation.mixes:
        return {}
    share = np.ones(count)
    boxed = np.ones(count, dtype=bool)
    if augmentation.mixup:
        share = rng.beta(augmentation.mixup, augmentation.mixup, count)
        boxed = rng.random(count) < 0.5 if augmentation.cutmix else np.zeros(count, dtype=bool)
    drawn = {"share": np.where(boxed, 1, share)}
    if augmentation.cutmix:
        side = np.sqrt(1 - rng.beta(augmentation.cutmix, augmentation.cutmix, (count, 1)))
        for name, length in (("box_rows", height), ("box_columns", width)):
            half = (length * side).astype(int) // 2
            middle = rng.integers(0, length, (count, 1))
            drawn[name] = _between(length, middle - half, middle + half) & boxed[:, None]
    return drawn


def _between(length: int, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Which of 0 … length - 1 lie from `first` to before `end`, both (N, 1): (N, length)."""
    return (np.arange(length) >= first) & (np.arange(length) < end)


def _augmented(
    images: mx.array, augmentation: Augmentation, drawn: Draws, mean: Sequence[float], std: Sequence[float]
) -> mx.array:
    """All but the mixing: (M, H, W, C) uint8 to float32."""
    fill = mx.array(np.round(255 * np.asarray(mean)).astype(np.uint8))
    if augmentation.flip or augmentation.shift:
        images = _moved(images, drawn["rows"], drawn["columns"])
    for turn in range(augmentation.policy):
        chosen, signs = drawn["operations"][:, turn], drawn["signs"][:, turn]
        images = policy.apply(images, chosen, signs, augmentation.magnitude, fill)
    if augmentation.jitter:
        for factor, adjust in zip(drawn["factors"].T, (policy.brightness, policy.contrast, policy.colour), strict=True):
            images = adjust(images, mx.array(factor.astype(np.float32)))
    if augmentation.hue:
        images = policy.hue(images, mx.array(drawn["turns"].astype(np.float32)))
    if augmentation.cutout:
        rows, columns = mx.array(drawn["hidden_rows"]), mx.array(drawn["hidden_columns"])
        images = mx.where((rows[:, :, None] & columns[:, None, :])[..., None], fill, images)
    return normalised(images, mean, std)


def _moved(images: mx.array, rows: np.ndarray, columns: np.ndarray) -> mx.array:
    """out[n, i, j] = images[n, rows[n, i], columns[n, j]], indices beyond an edge mirrored at its pixel.

    Whole rows first, then pixels in them: on a CPU three times as fast as pixels at once.
    """
    count, height, width, channels = images.shape
    row = mx.array(_reflect(rows, height) + height * np.arange(count)[:, None])
    column = mx.array(_reflect(columns, width))[:, None, :, None]
    moved = images.reshape(count * height, width * channels)[row].reshape(images.shape)
    return mx.take_along_axis(moved, mx.broadcast_to(column, images.shape), axis=2)


def _reflect(index: np.ndarray, length: int) -> np.ndarray:
    """Mirror indices that lie less than `length` outside 0 … length - 1 at the first and the last pixel."""
    return (length - 1) - np.abs((length - 1) - np.abs(index))


def _shares(drawn: Draws, height: int, width: int) -> tuple[mx.array, mx.array]:
    """The share that an image has of each pixel (P, H, W, 1) or (P, 1, 1, 1), and of the whole (P, 1); float32."""
    share = drawn["share"][:, None].astype(np.float32)
    if "box_rows" not in drawn:
        return mx.array(share[:, :, None, None]), mx.array(share)
    rows, columns = drawn["box_rows"], drawn["box_columns"]
    covered = rows.sum(axis=1, keepdims=True) * columns.sum(axis=1, keepdims=True) / (height * width)
    box = (mx.array(rows)[:, :, None] & mx.array(columns)[:, None, :])[..., None]
    return mx.where(box, 0, mx.array(share[:, :, None, None])), mx.array((share * (1 - covered)).astype(np.float32))


def _one_hot(labels: mx.array, classes: int) -> mx.array:
    return (labels[:, None] == mx.arange(classes)).astype(mx.float32)
