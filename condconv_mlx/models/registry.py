"""Names of architectures."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import mlx.nn as nn

from condconv_mlx.models import condconv_small, efficientnet, mnasnet_a1, mobilenet_v1, mobilenet_v2, resnet50
from condconv_mlx.models.norms import replace_norms
from condconv_mlx.names import did_you_mean

# What builds each, and the settings that it takes.
_ARCHITECTURES: dict[str, tuple[Callable[..., tuple[nn.Module, dict[str, Any]]], type]] = {
    "condconv_small": (condconv_small.build, condconv_small.Settings),
    "efficientnet_b0": (partial(efficientnet.build, "efficientnet_b0"), efficientnet.Settings),
    "efficientnet_b1": (partial(efficientnet.build, "efficientnet_b1"), efficientnet.Settings),
    "mnasnet_a1": (mnasnet_a1.build, mnasnet_a1.Settings),
    "mobilenet_v1": (mobilenet_v1.build, mobilenet_v1.Settings),
    "mobilenet_v2": (mobilenet_v2.build, mobilenet_v2.Settings),
    "resnet50": (resnet50.build, resnet50.Settings),
}

# Side of the square images that a network is made for, in pixels.
_IMAGE_SIZES = {"condconv_small": 32, "efficientnet_b1": 240}


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return sorted(_ARCHITECTURES)


def input_shape(model: nn.Module, size: int | None = None) -> tuple[int, int, int]:
    """(H, W, C) of the square images that a model from `create_model` takes, without the batch.

    `size` is its side in pixels; by default what the model was trained on, else what its architecture is made for.
    """
    config, info = model.config, model.info
    side = size or info.get("input", {}).get("size") or _IMAGE_SIZES.get(config["name"], 224)
    return side, side, config.get("in_channels", 3)


def create_model(
    name: str, *, num_classes: int = 10, num_experts: int | None = 8, norm: str = "batch", **options: Any
) -> nn.Module:
    """A network with fresh weights.

    Args:
        name: one of `list_models()`.
        num_classes: number of logits.
        num_experts: experts of each CondConv layer; None is the static network.
        norm: `"batch"`, `"group"` or `"layer"` normalisation, see `models.norms`.
        options: further settings of that architecture, see its module.

    Returns:
        The network. Its `config` holds these arguments, all settings filled in, and its `info` is empty; both are
        plain JSON and travel with saved weights.

    Raises:
        ValueError: for an unknown name or setting, or a value that does not fit.
    """
    if name not in _ARCHITECTURES:
        hint = did_you_mean(name, list_models())
        raise ValueError(f'[create_model] name must be one of {list_models()}, got "{name}".{hint}')
    build, settings_of = _ARCHITECTURES[name]
    known = [field.name for field in fields(settings_of)]
    if unknown := [option for option in options if option not in known]:
        hint = did_you_mean(unknown[0], known)
        raise ValueError(f"[create_model] {name} has no such setting: {unknown[0]}. It has {', '.join(known)}.{hint}")
    try:
        model, settings = build(num_classes=num_classes, num_experts=num_experts, **options)
    except TypeError as error:
        raise ValueError(f"[create_model] a setting of {name} has the wrong type: {error}.") from error
    # Not children of the module: nn.Module keeps dictionaries as containers of parameters, so go around it.
    config = {"name": name, **settings}
    if norm != "batch":
        replace_norms(model, norm)
        config["norm"] = norm
    object.__setattr__(model, "config", config)
    object.__setattr__(model, "info", {})
    return model
