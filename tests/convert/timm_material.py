"""Networks of timm's with weights that any machine can draw again, and timm itself where it is installed."""

import zlib
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from condconv_mlx import create_model
from condconv_mlx.bench.peers import without_torchvision_operators
from condconv_mlx.checkpoint import named_arrays, write_arrays
from condconv_mlx.convert.from_timm import timm_arrays

# Stem, router and experts, of which the stored answer has the gradients, for images seen with a cotangent of seed 1.
GRADIENTS = (
    "conv_stem.weight",
    "blocks.4.0.routing_fn.weight",
    "blocks.4.0.conv_dw.weight",
    "blocks.6.0.routing_fn.bias",
)
FIXTURE = Path(__file__).parent / "tf_efficientnet_cc_b0_4e.npz"


def images(shape, seed=0):
    """Random pictures (N, H, W, C), float32."""
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def random_arrays(model):
    """Random values for all arrays but running statistics of timm's counterpart of our network, by timm's names.

    Kernels have a variance of 1 / fan-in. RandomState gives the same numbers with every version of NumPy.
    """
    arrays = {}
    shapes = {name: value.shape for name, value in named_arrays(model).items()}
    for name, theirs in timm_arrays(model).items():
        if name.endswith(("running_mean", "running_var")):
            continue
        noise = np.random.RandomState(zlib.crc32(theirs.name.encode())).standard_normal(theirs.shape)
        layer = theirs.name.split(".")[-2]
        if layer.startswith("bn") or ".downsample.1." in theirs.name:
            noise = 0.2 * noise + theirs.name.endswith("weight")
        elif theirs.name.endswith("bias"):
            noise = 0.1 * noise
        else:
            ours = shapes[name]
            experts = len(theirs.shape) == 2 and len(ours) > 2
            noise = noise / np.sqrt(np.prod(ours[2:] if experts else ours[1:]))
            # Larger ones would multiply rounding errors from block to block.
            noise *= 0.3 if layer.endswith("routing_fn") else 1
        arrays[theirs.name] = noise.astype(np.float32)
    return arrays


def timm_or_skip():
    """(torch, timm), or the test is skipped."""
    torch = pytest.importorskip("torch")
    with without_torchvision_operators(torch):
        return torch, pytest.importorskip("timm", exc_type=ImportError)


def calibrate(torch, network, size, batches=3):
    """Running statistics of random pictures. Without them routers saturate, and rounding is all that is compared."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    with torch.no_grad():
        for seed in range(batches):
            network(torch.from_numpy(images((16, size, size, 3), 100 + seed)).permute(0, 3, 1, 2))
    network.eval()


def load(torch, network, arrays):
    """Put arrays by name into a network of PyTorch; each has to have a place."""
    state = network.state_dict()
    assert not arrays.keys() - state.keys()
    network.load_state_dict({**state, **{name: torch.from_numpy(value) for name, value in arrays.items()}})


def save(network, path):
    """The network as a safetensors file of PyTorch's."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, str(path))


def stored_network(folder, **changes):
    """The network of the stored answer as a file of timm's, and the answer; `changes` replace arrays or drop them."""
    stored = np.load(FIXTURE)
    arrays = random_arrays(create_model("efficientnet_b0", num_classes=1000, num_experts=4))
    arrays |= {name: stored[name] for name in stored.files if "running" in name}
    arrays = {name: mx.array(value) for name, value in arrays.items()} | {"bn1.num_batches_tracked": mx.array(3)}
    path = folder / "model.safetensors"
    chosen = {name: value for name, value in (arrays | changes).items() if value is not None}
    write_arrays(path, chosen, {"format": "pt"})
    return path, stored
