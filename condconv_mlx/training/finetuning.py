"""Trained networks that are trained further, on their own classes or others."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.models import create_model

CLASSIFIER = "classifier"


def for_classes(trained: nn.Module, labels: Sequence[str]) -> nn.Module:
    """A trained network to train on: as it is if it knows these classes, else with a fresh classifier.

    Args:
        trained: from `load_model` or `load_any`; stays as it is.
        labels: names of the classes.

    Returns:
        A network from `create_model`. Unless `trained` has the same labels in the same order, its classifier, with its
        router, is fresh; all else has the weights of `trained`. Its `info` has the size, mean and deviation of the
        images that `trained` wants.

    Raises:
        ValueError: if `trained` is no network that `create_model` describes, or does not say what images it wants.
    """
    config, info = dict(getattr(trained, "config", None) or {}), getattr(trained, "info", {})
    if not config:
        raise ValueError("only a network of create_model's can go on with other classes")
    if "input" not in info:
        raise ValueError("the network does not say which images it was trained on")
    same = info.get("labels") == list(labels)
    model = create_model(**config | {"num_classes": len(labels)})
    arrays = named_arrays(trained)
    model.update(tree_unflatten([(name, arrays[name]) for name in arrays if same or not _of_classifier(name)]))
    # How its pictures were cropped belongs to the old ones.
    model.info["input"] = {key: info["input"][key] for key in ("size", "channels", "mean", "std")}
    mx.eval(model.parameters())
    return model


def freeze_backbone(model: nn.Module) -> None:
    """Let only the classifier be trained. `ValueError` if the network has none."""
    if CLASSIFIER not in model:
        raise ValueError("this network has no classifier to train alone: leave out freeze")
    model.freeze()
    # One by one: unfrozen from above, batch normalisation would have its statistics trained.
    for module in model[CLASSIFIER].modules():
        module.unfreeze(recurse=False)


def training_mode(model: nn.Module, frozen: bool) -> None:
    """Training mode; of a frozen network only for the classifier, so that batch normalisation keeps its statistics."""
    model.train(not frozen)
    if frozen:
        model[CLASSIFIER].train()


def _of_classifier(name: str) -> bool:
    return name.startswith(f"{CLASSIFIER}.")
