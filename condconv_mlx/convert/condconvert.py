"""Static layers of any MLX model become CondConv layers that compute the same."""

import math
from collections.abc import Callable, Sequence
from copy import copy
from fnmatch import fnmatchcase
from types import MethodType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.layers import CondConv1d, CondConv2d, CondLinear, Router
from condconv_mlx.static_layers import Conv2d

Where = str | Sequence[str] | Callable[[str, nn.Module], bool]

# Their classes exactly: a subclass (quantized, say, or low-rank) may compute something else.
CONVERTIBLE = (nn.Conv2d, Conv2d, nn.Conv1d, nn.Linear)


def condconvert(
    model: nn.Module,
    num_experts: int = 8,
    where: Where | None = None,
    *,
    noise: float = 0.5,
    seed: int = 0,
    **router_options: Any,
) -> nn.Module:
    """Replace layers of a model by CondConv layers, each with a router of its own, and keep its function.

    The router's last layer starts at zero, so that every input gets the same routing weights r: 1/2 by a sigmoid, 1/E
    by a softmax. The experts start as kernel / (E · r) plus noise that sums to zero over the experts, so their mixture
    is the kernel. Without noise they would be equal, get equal gradients, and stay equal. In evaluation mode and
    float32 each layer's output is that of the old one to 1e-5, relative.

    Args:
        model: any module that holds `nn.Conv2d` (depthwise ones too), `nn.Conv1d`, `nn.Linear` or this package's
            `Conv2d`, or is one. It stays as it is.
        num_experts: E of every new layer.
        where: which of these layers. None is all of them; a pattern like `"layer4.*"` or several are matched to the
            dotted names of `model.named_modules()`, where `*` stands for dots, too; a function gets name and layer.
        noise: standard deviation of the experts' noise, relative to that of the kernel.
        seed: of the noise.
        router_options: further arguments of `Router`, such as `activation="softmax"`, `dropout=0.1` or `norm=True`.

    Returns:
        A copy of the model with the layers replaced, in the dtypes, mode and freezing of the old ones; a module that
        sat in several places still does. All other arrays are shared with `model`. As no architecture of
        `create_model` describes it, `save_model` refuses it; `model.save_weights` works.

    Raises:
        ValueError: if `where`, or one of its patterns, chooses no layer that can be replaced, or an argument is wrong.

    A linear layer routes by the mean over all axes between first and last, so it needs an input (N, ..., C) with the
    batch in front: (C,) is refused, and (L, N, C) is routed by position instead of example. Where the module around a
    layer reads its `weight` instead of calling it, leave the layer out. Unlike a static one, a converted layer wants
    its input in its own dtype.
    """
    if noise < 0:
        raise ValueError(f"[condconvert] noise must be at least 0, got {noise}.")
    chosen = _chosen(model, where)
    keys = mx.random.split(mx.random.key(seed), len(chosen))
    replacements = {
        id(layer): _conditional(layer, num_experts, router_options, noise, key)
        for layer, key in zip(chosen, keys, strict=True)
    }
    converted = replaced(model, replacements)
    for config in zoo_configs(converted):
        config.clear()
    return converted


def replaced(model: nn.Module, replacements: dict[int, nn.Module]) -> nn.Module:
    """A copy of a model in which modules, given by `id`, are replaced wherever they sit; arrays are shared."""
    return _copied(model, dict(replacements))


def inherit(new: nn.Module, old: nn.Module) -> nn.Module:
    """`new`, evaluated, in the mode of `old`, and with those of its own arrays frozen that are in `old`."""
    # Evaluated, as arrays still lazy can be evaluated on no other thread, and row by row in memory, as
    # `mx.export_function` (0.32.4) writes views, such as a bias repeated for all experts, as what lies behind them.
    mx.eval(new.apply(mx.contiguous).parameters())
    new.train(old.training)
    return new.freeze(recurse=False, keys=sorted(old.parameters().keys() - old.trainable_parameters().keys()))


def zoo_configs(model: nn.Module) -> list[dict[str, Any]]:
    """The `config` of the model and of modules in it, as far as `create_model` made them.

    Only that goes around `nn.Module` to set a dictionary; a `config` of a model from elsewhere is none of ours.
    """
    configs = (vars(module).get("config") for module in model.modules())
    return [config for config in configs if isinstance(config, dict)]


def _chosen(model: nn.Module, where: Where | None) -> list[nn.Module]:
    """The layers to replace, each once; `ValueError` if there is none, or none for one of several patterns."""
    modules = model.named_modules()[::-1]
    of_routers = {id(part) for _, module in modules if isinstance(module, Router) for part in module.modules()}
    layers = [
        (name, module) for name, module in modules if type(module) in CONVERTIBLE and id(module) not in of_routers
    ]
    if where is None or callable(where):
        chosen = [layer for name, layer in layers if where is None or where(name, layer)]
    else:
        patterns = [where] if isinstance(where, str) else where
        for pattern in patterns:
            if not _matching(layers, pattern):
                others = _matching(modules, pattern)
                but = f", only {_described(others)}" if others else ""
                raise ValueError(f"[condconvert] where={pattern!r} matches no layer{but}. {_listed(layers)}")
        chosen = [layer for pattern in patterns for _, layer in _matching(layers, pattern)]
    if not chosen:
        raise ValueError(f"[condconvert] where={where} chooses no layer. {_listed(layers)}")
    return list({id(layer): layer for layer in chosen}.values())


def _matching(modules: list[tuple[str, nn.Module]], pattern: str) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in modules if fnmatchcase(name, pattern)]


def _listed(layers: list[tuple[str, nn.Module]]) -> str:
    if not layers:
        return "The model has no nn.Conv2d, nn.Conv1d or nn.Linear of its own."
    return f"Those that can be replaced are {_described(layers)}."


def _described(modules: list[tuple[str, nn.Module]]) -> str:
    """The first few by name and class, and how many more there are."""
    first = ", ".join(f"{name!r} ({type(module).__name__})" for name, module in modules[:8])
    return first if len(modules) <= 8 else f"{first} and {len(modules) - 8} more"


def _conditional(
    layer: Any, num_experts: int, router_options: dict[str, Any], noise: float, key: mx.array
) -> nn.Module:
    """The CondConv layer that computes what a static layer does."""
    out, *kernel, channels = layer.weight.shape
    bias = "bias" in layer
    new: Any
    if isinstance(layer, nn.Linear):
        new = CondLinear(channels, out, num_experts, bias, router=False)
    else:
        channels *= layer.groups
        kind: Any = CondConv2d if isinstance(layer, nn.Conv2d) else CondConv1d
        size = kernel if kind is CondConv2d else kernel[0]
        geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
        new = kind(channels, out, size, num_experts, *geometry, bias, router=False)
    new.router = Router(channels, num_experts, **router_options)
    new.router.linear.apply(mx.zeros_like)
    new.router.set_dtype(layer.weight.dtype)
    share = 1 / num_experts / (0.5 if new.router.activation == "sigmoid" else 1 / num_experts)
    new.weight = (layer.weight * share + _noise(layer.weight, num_experts, noise, key)).astype(layer.weight.dtype)
    if bias:
        new.bias = mx.repeat(layer.bias[None] * share, num_experts, axis=0)
    return inherit(new, layer)


def _noise(kernel: mx.array, num_experts: int, scale: float, key: mx.array) -> mx.array:
    """Noise (E, *kernel.shape) in float32 that sums to zero over the experts."""
    fan_in = math.prod(kernel.shape[1:])
    deviation = kernel.astype(mx.float32).std()
    # A kernel that is constant, as many a classifier is at first, gets the deviation of a fresh layer.
    deviation = mx.where(deviation > 0, deviation, math.sqrt(1 / (3 * fan_in)))
    noise = mx.random.normal((num_experts, *kernel.shape), key=key) * (scale * deviation)
    return noise - noise.mean(axis=0)


def _copied(value: Any, done: dict[int, Any]) -> Any:
    """A copy of a value of a module tree: modules, containers and sets of names are new, all else is shared.

    `copy.deepcopy` cannot copy functions of MLX, such as `nn.gelu`, which models hold as activations. `done` has the
    copies so far by the `id` of the original.
    """
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
        new = _copied(value.__self__, done)
        same = type(new) is type(value.__self__)
        return MethodType(value.__func__, new) if same else getattr(new, value.__name__)
    if type(value) is tuple:
        return tuple(_copied(item, done) for item in value)
    if isinstance(value, set):
        return copy(value)
    if not isinstance(value, (dict, list)):
        return value
    new = done[id(value)] = copy(value)
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        new[key] = _copied(item, done)
    if isinstance(value, nn.Module):
        vars(new).update({key: _copied(item, done) for key, item in vars(value).items()})
    return new
