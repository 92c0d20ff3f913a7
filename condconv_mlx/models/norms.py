"""Another normalisation than a network's own batch normalisation, which suffers at small batches (paper, section 4)."""

import mlx.nn as nn
from mlx.utils import tree_unflatten

from condconv_mlx.layers import Router

NORMS = ("group", "layer")
CHANNELS = 16  # of a group, about


def replace_norms(model: nn.Module, norm: str) -> None:
    """Put group or layer normalisation where a network has batch normalisation, with fresh parameters. In place.

    Source: Wu and He, arXiv 1803.08494. A group has the number of channels nearest to 16 that divides them all; layer
    normalisation is one group of all channels, over all positions. Routers see one vector an image, and normalise
    over its channels either way.

    Raises:
        ValueError: for an unknown name.
    """
    if norm not in NORMS:
        raise ValueError(f'[create_model] norm must be one of {["batch", *NORMS]}, got "{norm}".')
    named = model.named_modules()
    in_router = {id(part) for _, module in named if isinstance(module, Router) for part in module.modules()}
    new: list[tuple[str, nn.Module]] = []
    for name, module in named:
        if isinstance(module, nn.BatchNorm):
            channels = module.weight.size
            if id(module) in in_router:
                new.append((name, nn.LayerNorm(channels, eps=module.eps)))
            else:
                groups = 1 if norm == "layer" else channels // _nearest_divisor(channels)
                new.append((name, nn.GroupNorm(groups, channels, eps=module.eps, pytorch_compatible=True)))
    model.update_modules(tree_unflatten(new))


def _nearest_divisor(channels: int) -> int:
    return min((n for n in range(1, channels + 1) if channels % n == 0), key=lambda n: (abs(n - CHANNELS), -n))
