"""Networks of timm (PyTorch) as networks of ours: names, shapes and layouts of their arrays.

The weights of timm's `CondConv2d` are (E, O · I · kh · kw); kernels of PyTorch are (O, I, kh, kw), ours (O, kh, kw, I).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from condconv_mlx.checkpoint import (
    CheckpointError,
    assign,
    is_ours,
    list_weights,
    load_model,
    named_arrays,
    read_arrays,
)
from condconv_mlx.convert.hub import HUB_MODELS, TAG, fetch, hub_model, preprocessing
from condconv_mlx.models import create_model, efficientnet, list_models, mnasnet_a1, mobilenet_v2, resnet50
from condconv_mlx.names import did_you_mean

UNUSED = "num_batches_tracked"  # a counter of PyTorch's batch normalisation; nothing is computed from it
# Blocks of each stage of timm's, which numbers them by stage. Ours are numbered through.
STAGES = {
    **{name: [stage.blocks for stage in efficientnet.stages_of(name)] for name in efficientnet.DEPTHS},
    "mnasnet_a1": [stage.blocks for stage in mnasnet_a1.STAGES],
    "mobilenet_v1": [1, 2, 2, 6, 2],
    "mobilenet_v2": [stage.blocks for stage in mobilenet_v2.STAGES],
    "resnet50": [blocks for blocks, *_ in resnet50.STAGES],
}
TOP = {
    "stem": "conv_stem",
    "norm": "bn1",
    "head": "conv_head",
    "norm_head": "bn2",
    "classifier": "classifier",
    # timm has no such routers. These are the names that a network of your own has to use.
    "router.linear": "head_routing_fn",
    "classifier.router.linear": "classifier_routing_fn",
}
SQUEEZE = {"squeeze_excite.reduce": "se.conv_reduce", "squeeze_excite.expand": "se.conv_expand"}
EXPANDING = {
    "router.linear": "routing_fn",
    "expand": "conv_pw",
    "norm_expand": "bn1",
    "depthwise": "conv_dw",
    "norm_depthwise": "bn2",
    "project": "conv_pwl",
    "norm_project": "bn3",
    **SQUEEZE,
}
SEPARABLE = {
    "router.linear": "routing_fn",
    "depthwise": "conv_dw",
    "norm_depthwise": "bn1",
    "project": "conv_pw",
    "norm_project": "bn2",
    **SQUEEZE,
}
RESNET_TOP = {"stem": "conv1", "norm": "bn1", "classifier": "fc"}
BOTTLENECK = {
    "router.linear": "routing_fn",
    **{f"conv{i}": f"conv{i}" for i in (1, 2, 3)},
    **{f"norm{i}": f"bn{i}" for i in (1, 2, 3)},
    "shortcut": "downsample.0",
    "norm_shortcut": "downsample.1",
}


class Theirs(NamedTuple):
    """An array of timm's: its name and shape, and how to lay it out as ours is."""

    name: str
    shape: tuple[int, ...]
    convert: Callable[[mx.array], mx.array]


def load_timm(
    name_or_path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    progress: bool = True,
    **settings: Any,
) -> nn.Module:
    """A network of ours with the weights of one of timm's, in float32 and evaluation mode. Its logits are timm's.

    Args:
        name_or_path: a name in `HUB_MODELS` ("tf_efficientnet_cc_b0_4e", …), which is downloaded on first use; or a
            safetensors file: one of these, or of a PyTorch network of your own, with the names of timm's network
            and its `CondConv2d` where ours has experts. A router is called `routing_fn` in its block,
            `head_routing_fn` and `classifier_routing_fn` outside (MobileNet).
        labels: names of the classes. By default ImageNet's where there are 1,000.
        progress: show a bar while downloading, on standard error.
        settings: of `create_model`, where the shapes do not tell: `same_padding`, `norm_eps`, `small_images`.

    Returns:
        The network. The architecture, the experts, classes and channels follow from the shapes of the arrays.

    Raises:
        HubError: if the file cannot be downloaded; the message says how to bring it some other way.
        CheckpointError: if the file is damaged, is a pickle, or does not fit: every array has to be used once.
        ValueError: for an unknown name or setting.
    """
    from condconv_mlx.data.imagenet import imagenet_labels

    name, path = str(name_or_path), Path(name_or_path)
    on_hub = name.removesuffix(TAG) in HUB_MODELS
    if on_hub:
        path = fetch(name, progress=progress)
    elif not (path.is_file() or path.suffix == ".safetensors"):
        hub_model(name)  # says which names there are, and which are near
    model = from_state_dict(read_arrays(path)[0], str(path), **settings)
    classes, channels = model.config["num_classes"], model.config["in_channels"]
    if labels is None and classes == 1000:
        labels = imagenet_labels()
    if labels is not None:
        if len(labels) != classes:
            raise ValueError(f"[load_timm] the network has {classes} classes, got {len(labels)} labels.")
        model.info["labels"] = list(labels)
    known = name.removesuffix(TAG) if on_hub else _published(model)
    if known is not None and channels == 3:
        model.info["input"] = preprocessing(known, path.parent)
    model.info["dataset"] = "imagenet" if classes == 1000 else "unknown"
    model.info["source"] = f"timm/{known}{TAG}" if on_hub else path.name
    return model


def load_any(name_or_path: str | Path, progress: bool = True) -> nn.Module:
    """A model of any kind: shipped weights or a file of ours by `load_model`, all else by `load_timm`."""
    name = str(name_or_path)
    known = [*list_weights(), *HUB_MODELS]
    if name.removesuffix(TAG) not in known and not Path(name).suffix and not Path(name).is_file():
        raise CheckpointError(
            f'There is no file and no model "{name}". Models: {", ".join(known)}.{did_you_mean(name, known)}'
        )
    ours = name in list_weights() or (name.removesuffix(TAG) not in HUB_MODELS and is_ours(name))
    return load_model(name) if ours else load_timm(name, progress=progress)


def from_state_dict(arrays: dict[str, mx.array], source: str, **settings: Any) -> nn.Module:
    """The network whose arrays in PyTorch are these. See `load_timm`; `source` is used in messages."""
    arrays = {name: value for name, value in arrays.items() if not name.endswith(UNUSED)}
    found = _sizes(arrays, source)
    candidates = {}
    for architecture in STAGES:
        if ("fc.weight" in arrays) == (architecture == "resnet50"):
            model = create_model(architecture, **(found | _own_sizes(architecture, arrays) | settings))
            wanted = timm_arrays(model)
            candidates[architecture] = sum(1 for _ in _misfits(arrays, wanted)), model, wanted
    architecture = min(candidates, key=lambda name: candidates[name][0])
    wrong, model, wanted = candidates[architecture]
    if wrong:
        first = next(_misfits(arrays, wanted))
        raise CheckpointError(
            f"{source} does not fit any network as timm names its arrays. Of the nearest, {architecture} with "
            f"{model.config['num_experts'] or 'no'} experts, {wrong} arrays differ; the first: {first}."
        )
    ours = {name: theirs.convert(arrays[theirs.name]).astype(mx.float32) for name, theirs in wanted.items()}
    assign(model, ours, source)
    return model.eval()


def timm_arrays(model: nn.Module) -> dict[str, Theirs]:
    """For each array of a network of ours, by its name, what it is in timm's. `ValueError` for another architecture."""
    architecture = getattr(model, "config", {}).get("name")
    if architecture not in STAGES:
        raise ValueError(f"[timm_arrays] timm has {', '.join(STAGES)} of {', '.join(list_models())}, not this one.")
    modules = dict(model.named_modules())
    blocks = [
        f"{'layer' if architecture == 'resnet50' else 'blocks.'}{stage + (architecture == 'resnet50')}.{index}"
        for stage, count in enumerate(STAGES[architecture])
        for index in range(count)
    ]
    wanted = {}
    for name, value in named_arrays(model).items():
        layer, parameter = name.rsplit(".", 1)
        if layer.startswith("blocks."):
            _, index, inside = layer.split(".", 2)
            if architecture == "resnet50":
                names = BOTTLENECK
            else:
                names = EXPANDING if "expand" in model.blocks[int(index)] else SEPARABLE
            theirs = f"{blocks[int(index)]}.{names[inside]}"
        else:
            theirs = (RESNET_TOP if architecture == "resnet50" else TOP)[layer]
        conditional = type(modules[layer]).__name__.startswith("Cond")
        in_squeeze = "squeeze_excite" in layer
        wanted[name] = _theirs(f"{theirs}.{parameter}", value.shape, conditional, in_squeeze)
    return wanted


def _theirs(name: str, ours: tuple[int, ...], conditional: bool, in_squeeze: bool) -> Theirs:
    if conditional and len(ours) > 2:
        experts, out, *kernel, depth = ours
        shape = (experts, math.prod(ours[1:]))
        if not kernel:
            return Theirs(name, shape, lambda value: value.reshape(ours))
        torch = (experts, out, depth, *kernel)
        return Theirs(name, shape, lambda value: value.reshape(torch).transpose(0, 1, 3, 4, 2))
    if len(ours) == 4:
        out, height, width, depth = ours
        return Theirs(name, (out, depth, height, width), lambda value: value.transpose(0, 2, 3, 1))
    if in_squeeze and len(ours) == 2:
        return Theirs(name, (*ours, 1, 1), lambda value: value.reshape(ours))
    return Theirs(name, ours, lambda value: value)


def _misfits(arrays: dict[str, mx.array], wanted: dict[str, Theirs]) -> Iterator[str]:
    """What is wrong with the arrays, each in a few words."""
    shapes = {theirs.name: theirs.shape for theirs in wanted.values()}
    for name, shape in shapes.items():
        if name not in arrays:
            yield f"{name} is missing"
        elif arrays[name].shape != shape:
            yield f"{name} has shape {arrays[name].shape}, wanted is {shape}"
    yield from (f"{name} has no place" for name in arrays if name not in shapes)


def _sizes(arrays: dict[str, mx.array], source: str) -> dict[str, Any]:
    """Experts, classes and channels, which are settings of every architecture."""
    stem = arrays.get("conv_stem.weight", arrays.get("conv1.weight"))
    classes = arrays.get("classifier.bias", arrays.get("fc.bias"))
    if stem is None or classes is None or stem.ndim != 4 or classes.ndim not in (1, 2):
        raise CheckpointError(
            f"{source} is no network of timm's that is known here: it lacks conv_stem.weight and classifier.bias, or "
            f"conv1.weight and fc.bias. Its {len(arrays)} arrays begin with {', '.join(sorted(arrays)[:3]) or 'none'}."
        )
    routers = [value for name, value in arrays.items() if name.endswith("routing_fn.weight")]
    return {
        "num_experts": routers[0].shape[0] if routers else None,
        "num_classes": classes.shape[-1],
        "in_channels": stem.shape[1],
    }


def _own_sizes(architecture: str, arrays: dict[str, mx.array]) -> dict[str, Any]:
    """Settings that only one architecture has."""
    if architecture == "mobilenet_v1":
        last = arrays.get("blocks.4.1.bn2.bias")
        # Another network may have this array, with other channels.
        return {} if last is None or not 256 <= last.size <= 1024 else {"width": last.size / 1024}
    if architecture == "resnet50":
        return {"small_images": arrays["conv1.weight"].shape[2:] == (3, 3)}
    return {}


def _published(model: nn.Module) -> str | None:
    """The name on the hub of a network with this architecture and these experts."""
    wanted = model.config["name"], model.config["num_experts"]
    return next((name for name, known in HUB_MODELS.items() if (known.network, known.experts) == wanted), None)
