"""Trained networks with a new classifier."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from condconv_mlx.checkpoint import named_arrays
from condconv_mlx.models import create_model

CLASSIFIER = "classifier"


def with_new_classifier(trained: nn.Module, num_classes: int) -> nn.Module:
    """The network for other classes: a fresh classifier, its router too, and all else as it was trained.

    Args:
        trained: from `load_model` or `load_any`; stays as it is.
        num_classes: of the new classifier.

    Returns:
        A network from `create_model`. Its `info` has the size, mean and deviation of the images that `trained` wants.

    Raises:
        ValueError: if `trained` is no network that `create_model` describes, or does not say what images it wants.
    """
    config, wanted = dict(getattr(trained, "config", None) or {}), getattr(trained, "info", {}).get("input")
    if not config:
        raise ValueError("only a network of create_model's can get a new classifier")
    if not wanted:
        raise ValueError("the network does not say which images it was trained on")
    model = create_model(**config | {"num_classes": num_classes})
    kept = [(name, value) for name, value in named_arrays(trained).items() if not _of_classifier(name)]
    model.update(tree_unflatten(kept))
    # What its pictures were cropped by belongs to the old ones.
    model.info["input"] = {key: wanted[key] for key in ("size", "channels", "mean", "std")}
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
