"""What the routers do over many pictures: those of the tray, or of a data set's test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from condconv_mlx.app import engine
from condconv_mlx.app.engine import Answer
from condconv_mlx.app.models import Card
from condconv_mlx.app.parts import short
from condconv_mlx.app.pictures import data_uri, image_of
from condconv_mlx.data import Dataset, fit_image

# Of fitted images of a data set, which are kept for their thumbnails.
MOST_BYTES = 2**27
THUMBNAIL = 64


@dataclass(frozen=True)
class Survey:
    """N pictures, and what R routers do with them.

    Attributes:
        ids: of the pictures: in the tray, or their indices in the data set.
        names: what they are called.
        truths: their true classes, or None where those of some are not known.
        predictions: what the network takes them for.
        routers: names, in order of execution; none for a static network.
        weights: for each router (N, E).
        thumbnail: of the n-th picture, a small image as a data URI.
    """

    ids: list[str]
    names: list[str]
    truths: list[str] | None
    predictions: list[str]
    routers: list[str]
    weights: list[np.ndarray]
    thumbnail: Callable[[int], str]

    @cached_property
    def vectors(self) -> np.ndarray:
        """All routing weights of each picture, (N, all experts of all routers)."""
        return np.concatenate(self.weights, axis=1)

    def classes(self, truth: bool) -> tuple[list[str], np.ndarray]:
        """The names of the classes that occur, and for each picture its index among them, (N,)."""
        of = self.truths if truth and self.truths else self.predictions
        names, index = np.unique(of, return_inverse=True)
        return names.tolist(), index


def of_answer(
    card: Card,
    answer: Answer,
    ids: Sequence[str],
    names: Sequence[str],
    truths: Sequence[str | None],
    thumbnail: Callable[[int], str],
) -> Survey:
    """A survey of pictures whose routing is known."""
    known = [truth for truth in truths if truth is not None]
    return Survey(
        ids=list(ids),
        names=list(names),
        truths=known if len(known) == len(truths) else None,
        predictions=[card.labels[i] for i in answer.probabilities.argmax(axis=1)],
        routers=[short(routing.router) for routing in answer.routing],
        weights=[routing.weights for routing in answer.routing],
        thumbnail=thumbnail,
    )


def most(card: Card, data: Dataset) -> int:
    """How many test images of a data set can be surveyed at once."""
    return min(len(data.test_images), MOST_BYTES // (card.size**2 * card.channels))


def of_dataset(card: Card, data: Dataset, chosen: np.ndarray, progress: Callable[[float], object]) -> Survey:
    """A survey of the test images of those indices. Tells how far it is, from 0 to 1."""
    images = np.empty((len(chosen), card.size, card.size, card.channels), np.uint8)
    answers = []
    for part in engine.batches(images):
        # A few at a time, since a data set may decode its images as they are taken.
        images[part] = [_fitted(card, pixels) for pixels in data.test_images[chosen[part]]]
        answers.append(engine.run(card.name, images[part]))
        progress(min(part.stop, len(images)) / len(images))
    truths = [data.labels[int(data.test_labels[n])] for n in chosen]
    names = [f"{truth} {n + 1}" for truth, n in zip(truths, chosen, strict=True)]
    return of_answer(
        card, engine.joined(images, answers), [f"{n}" for n in chosen], names, truths, lambda n: _thumbnail(images[n])
    )


def _fitted(card: Card, pixels: np.ndarray) -> np.ndarray:
    if pixels.shape == (card.size, card.size, card.channels):
        return pixels
    return fit_image(image_of(pixels), card.size, card.channels, crop=card.crop, interpolation=card.interpolation)


def _thumbnail(pixels: np.ndarray) -> str:
    image = image_of(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    # Tiny ones keep their pixels.
    return data_uri(image, "PNG" if max(image.size) < THUMBNAIL else "JPEG")
