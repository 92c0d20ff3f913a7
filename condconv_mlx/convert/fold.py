"""CondConv layers become static ones, for fixed routing weights."""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx import functional as F
from condconv_mlx.convert.condconvert import inherit, replaced, zoo_configs
from condconv_mlx.layers import CondConv1d, CondConv2d, CondLinear, Router
from condconv_mlx.static_layers import Conv2d


def fold(model: nn.Module, routing: Mapping[str, Any]) -> nn.Module:
    """The static model that computes what a CondConv model does with fixed routing weights.

    For the routing of one image: `fold(model, {r.name: r.weights[0] for r in explain.trace(model, image).routers})`.

    Args:
        model: any module that holds CondConv layers, or is one. It stays as it is. A layer is fed by its own router, or
            if it has none by that of the nearest module around it that has one.
        routing: by the name of every router in the model, as `explain.trace` gives it, its weights (E,).

    Returns:
        A copy of the model with each CondConv layer replaced by a static one, in the dtype, mode and freezing of the
        old, with arrays shared where nothing changed. A layer with a router of its own becomes `nn.Conv2d`, `nn.Conv1d`
        or `nn.Linear` where those have its kind of padding. Of a shared router nothing remains but a call that gives
        None, and its layers ignore what they are passed for routing weights. `save_model` saves what came from
        `create_model`, as its static network.

    Raises:
        ValueError: if `routing` leaves out a router, or names one that the model has not, or has weights of another
            shape; if it cannot be seen which router feeds a layer, or which layers a router feeds.
    """
    modules = dict(model.named_modules())
    names = {id(module): name for name, module in modules.items()}
    routers = {names[id(module)]: module for module in modules.values() if isinstance(module, Router)}
    weights = _checked(routing, routers)

    fed_by: dict[int, str] = {}
    for path, module in modules.items():
        if isinstance(module, tuple(_FOLDS)):
            router = names[id(_router_of(path, modules))]
            if fed_by.setdefault(id(module), router) != router:
                raise ValueError(f"[fold] {path!r} is fed by two routers, {fed_by[id(module)]!r} and {router!r}.")
    if idle := sorted(routers.keys() - fed_by.values()):
        raise ValueError(
            f"[fold] router {idle[0]!r} feeds no layer that can be seen: one that holds it, or that lies without a "
            "router of its own in the module that holds it."
        )

    layers = {id(module): module for module in modules.values()}
    replacements = {layer: _folded(layers[layer], weights[router]) for layer, router in fed_by.items()}
    folded = replaced(model, replacements | {id(router): NoRouter() for router in routers.values()})
    for config in zoo_configs(folded):
        if "num_experts" in config:
            config["num_experts"] = None
    return folded


class NoRouter(nn.Module):
    """Stands where a router was that several layers shared, and gives None to hand on to them."""

    def __call__(self, x: mx.array) -> None:
        return None


class FoldedConv2d(Conv2d):
    """A static convolution that takes and ignores routing weights; any padding of `CondConv2d`."""

    def __call__(self, x: mx.array, routing_weights: mx.array | None = None) -> mx.array:
        return super().__call__(x)


class FoldedConv1d(nn.Conv1d):
    """A static convolution that takes and ignores routing weights; any padding of `CondConv1d`."""

    def __call__(self, x: mx.array, routing_weights: mx.array | None = None) -> mx.array:
        padding: Any = self.padding if isinstance(self.padding, str) else ((0, 0), self.padding)
        output = F.conv2d(
            x[:, None],
            self.weight[:, None],
            stride=(1, self.stride),
            padding=padding,
            dilation=(1, self.dilation),
            groups=self.groups,
            exportable=not self.training,
        )[:, 0]
        return output + self.bias if "bias" in self else output


class FoldedLinear(nn.Linear):
    """A static fully connected layer that takes and ignores routing weights."""

    def __call__(self, x: mx.array, routing_weights: mx.array | None = None) -> mx.array:
        return super().__call__(x)


def _checked(routing: Mapping[str, Any], routers: Mapping[str, Any]) -> dict[str, mx.array]:
    """The routing weights (E,) of every router."""
    if unknown := sorted(routing.keys() - routers.keys()):
        raise ValueError(f"[fold] no router is called {unknown[0]!r}; the model has {sorted(routers)}.")
    if missing := sorted(routers.keys() - routing.keys()):
        raise ValueError(f"[fold] routing must name all {len(routers)} routers, it lacks {', '.join(missing)}.")
    weights = {name: mx.array(given) for name, given in routing.items()}
    for name, given in weights.items():
        wanted = (routers[name].linear.weight.shape[0],)
        if given.shape != wanted:
            raise ValueError(f"[fold] routing of {name!r} must be (E,) = {wanted}, got shape {given.shape}.")
    return weights


def _router_of(path: str, modules: Mapping[str, Any]) -> Router:
    """The router that feeds the layer at a path: its own, or that of the nearest module around it."""
    parts = path.split(".")
    around = [".".join(parts[:length]) for length in range(len(parts), 0, -1)] + [""]
    for place in around:
        # Lists have no entry of their own; their modules belong to the module that holds the list.
        near = [module for module in modules[place].values() if isinstance(module, Router)] if place in modules else []
        if len(near) > 1:
            raise ValueError(f"[fold] {path!r} may be fed by any of the {len(near)} routers in {place!r}.")
        if near:
            return near[0]
    raise ValueError(f"[fold] it cannot be seen what feeds {path!r}: neither it nor a module around it has a router.")


def _folded(layer: nn.Module, routing_weights: mx.array) -> nn.Module:
    """The static layer with the kernel that the routing weights (E,) mix."""
    if type(layer) not in _FOLDS:
        raise ValueError(f"[fold] {type(layer).__name__} is no layer of this package but a subclass of one.")
    new = _FOLDS[type(layer)](layer)
    for name in ("weight", "bias"):
        if name in layer:
            new[name] = F.mix_experts(routing_weights[None], layer[name])[0]
    return inherit(new, layer)


def _conv2d(layer: Any) -> nn.Module:
    padding = layer.padding
    plain = isinstance(padding, int) or all(isinstance(size, int) for size in padding)
    kind = nn.Conv2d if plain and "router" in layer else FoldedConv2d
    _, out, *kernel, channels = layer.weight.shape
    geometry = (layer.stride, padding, layer.dilation, layer.groups)
    return kind(channels * layer.groups, out, tuple(kernel), *geometry, "bias" in layer)


def _conv1d(layer: Any) -> nn.Module:
    padding = layer.padding
    plain = not isinstance(padding, str) and padding[0] == padding[1] and "router" in layer
    _, out, kernel, channels = layer.weight.shape
    geometry = (layer.stride, padding[0] if plain else padding, layer.dilation, layer.groups)
    return (nn.Conv1d if plain else FoldedConv1d)(channels * layer.groups, out, kernel, *geometry, "bias" in layer)


def _linear(layer: Any) -> nn.Module:
    _, out, channels = layer.weight.shape
    return (nn.Linear if "router" in layer else FoldedLinear)(channels, out, "bias" in layer)


_FOLDS: dict[type[nn.Module], Any] = {CondConv2d: _conv2d, CondConv1d: _conv1d, CondLinear: _linear}
