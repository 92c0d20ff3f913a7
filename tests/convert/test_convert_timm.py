"""Networks of timm's against ours with the same weights. Without torch, a stored answer of timm's stands in."""

import json

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from timm_material import FIXTURE, GRADIENTS, calibrate, images, load, random_arrays, save, stored_network, timm_or_skip

from condconv_mlx import create_model, load_model, save_model
from condconv_mlx.checkpoint import CheckpointError, write_arrays
from condconv_mlx.convert import load_timm
from condconv_mlx.convert.from_timm import timm_arrays
from condconv_mlx.explain import trace

# timm's name, ours, and the experts.
PUBLISHED = {
    "tf_efficientnet_cc_b0_4e": ("efficientnet_b0", 4),
    "tf_efficientnet_cc_b0_8e": ("efficientnet_b0", 8),
    "tf_efficientnet_cc_b1_8e": ("efficientnet_b1", 8),
    "tf_efficientnet_b0": ("efficientnet_b0", None),
}
STATIC = {
    "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv2_100": "mobilenet_v2",
    "semnasnet_100": "mnasnet_a1",
    "resnet50": "resnet50",
    "efficientnet_b1": "efficientnet_b1",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A function: (network of timm's, ours loaded from its file, the file), each made once."""
    made = {}

    def make(name, ours, experts, build=None, **settings):
        if name not in made:
            torch, timm = timm_or_skip()
            network = build(timm) if build else timm.create_model(name)
            arrays = random_arrays(create_model(ours, num_classes=1000, num_experts=experts))
            load(torch, network, arrays)
            calibrate(torch, network, 128)
            path = tmp_path_factory.mktemp(name) / "model.safetensors"
            save(network, path)
            made[name] = network, load_timm(path, **settings), path
        return made[name]

    return make


def published(pair, name):
    return pair(name, *PUBLISHED[name])


def theirs_and_ours(network, model, x):
    """Logits, and the routing weights block by block, of both."""
    torch, _ = timm_or_skip()
    routing = []
    hooks = [
        module.register_forward_hook(lambda _, __, logits: routing.append(torch.sigmoid(logits).numpy()))
        for name, module in network.named_modules()
        if name.endswith("routing_fn")
    ]
    with torch.inference_mode():
        logits = network(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    for hook in hooks:
        hook.remove()
    traced = trace(model, mx.array(x))
    return (logits, routing), (traced.output, [router.weights for router in traced.routers])


def assert_same(network, model, x):
    (logits, routing), (our_logits, our_routing) = theirs_and_ours(network, model, x)
    assert np.abs(our_logits - logits).max() <= 1e-4 * np.ptp(logits)
    assert len(our_routing) == len(routing)
    for theirs, ours in zip(routing, our_routing, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-5
        # Were they saturated, or all alike, much could be wrong without a difference.
        assert 0.1 < np.median(theirs) < 0.9 and np.ptp(theirs) > 0.02


def timm_gradients(torch, network, x, cotangent):
    """Of the sum of logits times cotangent, by all parameters."""
    network.zero_grad()
    (network(torch.from_numpy(x).permute(0, 3, 1, 2)) * torch.from_numpy(cotangent)).sum().backward()
    return {name: value.grad.numpy() for name, value in network.named_parameters()}


def gradients(model, x, cotangent):
    """The same for ours, by timm's names and laid out as timm's."""
    _, found = nn.value_and_grad(model, lambda x: (model(x) * mx.array(cotangent)).sum())(mx.array(x))
    found = dict(tree_flatten(found))
    # Where an element of ours lies in timm's array: its layout applied to the numbers 0, 1, 2 …
    laid_out = {}
    for name, theirs in timm_arrays(model).items():
        if name in found:
            places = np.arange(np.prod(theirs.shape), dtype=np.int64).reshape(theirs.shape)
            array = np.empty(theirs.shape, np.float32)
            array.reshape(-1)[np.array(theirs.convert(mx.array(places)))] = np.array(found[name])
            laid_out[theirs.name] = array
    return laid_out


def relative_error(found, wanted):
    assert found.shape == wanted.shape
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("size", [(224, 224), (192, 256), (97, 97)])
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("name", PUBLISHED)
def test_logits_and_routing_are_timms(pair, name, n, size):
    network, model, _ = published(pair, name)
    assert_same(network, model, images((n, *size, 3)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_gradients_are_timms(pair, name, training):
    """Of all parameters: experts, routers, stem and the rest. In training the batch's own statistics are used."""
    torch, _ = timm_or_skip()
    network, model, path = published(pair, name)
    x, cotangent = images((3, 97, 97, 3)), images((3, 1000), seed=1)
    theirs = timm_gradients(torch, network.train(training), x, cotangent)
    ours = gradients(load_timm(path).train(training), x, cotangent)
    assert ours.keys() == theirs.keys()
    largest = max(map(np.linalg.norm, theirs.values()))
    for name, wanted in theirs.items():
        # A bias before a normalisation by the batch has none; what is left of its sums is rounding.
        rounding = 1e-6 * largest if training and name.endswith("bias") else 0
        error = np.linalg.norm(ours[name] - wanted)
        assert error <= 1e-3 * np.linalg.norm(wanted) + rounding, name
    # The running statistics that training leaves behind would spoil what comes after.
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path))
    network.eval()


@pytest.mark.parametrize("name", STATIC)
def test_static_networks_of_timm(pair, name):
    """Padding and epsilon of PyTorch's networks, which EfficientNet does not have by default."""
    options = {"same_padding": False, "norm_eps": 1e-5} if "efficient" in name else {}
    network, model, _ = pair(name, STATIC[name], None, **options)
    assert model.config["name"] == STATIC[name]
    assert_same(network, model, images((2, 97, 128, 3)))


def mnasnet_with_experts(timm):
    """A network of one's own: timm's builder, told to use its CondConv2d."""
    from functools import partial

    from timm.models._efficientnet_builder import decode_arch_def, round_channels
    from timm.models.efficientnet import EfficientNet

    stages = [
        ["ds_r1_k3_s1_e1_c16_noskip"],
        ["ir_r2_k3_s2_e6_c24"],
        ["ir_r3_k5_s2_e3_c40_se0.25"],
        ["ir_r4_k3_s2_e6_c80"],
        ["ir_r2_k3_s1_e6_c112_se0.25_cc4"],
        ["ir_r3_k5_s2_e6_c160_se0.25_cc4"],
        ["ir_r1_k3_s1_e6_c320_cc4"],
    ]
    return EfficientNet(decode_arch_def(stages), stem_size=32, round_chs_fn=partial(round_channels, multiplier=1.0))


def resnet_with_experts(timm):
    """Another: ResNet-50 whose last stage has blocks with timm's CondConv2d."""
    import torch
    from timm.layers import CondConv2d

    network = timm.create_model("resnet50")

    class Block(torch.nn.Module):
        def __init__(self, channels, stride):
            super().__init__()
            self.routing_fn = torch.nn.Linear(channels, 4)
            self.conv1, self.bn1 = CondConv2d(channels, 512, 1), torch.nn.BatchNorm2d(512)
            self.conv2, self.bn2 = CondConv2d(512, 512, 3, stride, padding=1), torch.nn.BatchNorm2d(512)
            self.conv3, self.bn3 = CondConv2d(512, 2048, 1), torch.nn.BatchNorm2d(2048)
            if stride > 1:
                self.downsample = torch.nn.ModuleList(
                    [CondConv2d(channels, 2048, 1, stride), torch.nn.BatchNorm2d(2048)]
                )

        def forward(self, x):
            routing = torch.sigmoid(self.routing_fn(x.mean((2, 3))))
            y = torch.relu(self.bn1(self.conv1(x, routing)))
            y = torch.relu(self.bn2(self.conv2(y, routing)))
            y = self.bn3(self.conv3(y, routing))
            if hasattr(self, "downsample"):
                x = self.downsample[1](self.downsample[0](x, routing))
            return torch.relu(x + y)

    network.layer4 = torch.nn.Sequential(Block(1024, 2), Block(2048, 1), Block(2048, 1))
    return network


@pytest.mark.parametrize(
    "build, name, blocks", [(mnasnet_with_experts, "mnasnet_a1", 6), (resnet_with_experts, "resnet50", 3)]
)
def test_a_network_of_ones_own(pair, build, name, blocks):
    network, model, _ = pair(build.__name__, name, 4, build)
    assert model.config["name"] == name and model.config["num_experts"] == 4
    x = images((2, 97, 128, 3))
    assert_same(network, model, x)
    assert len(trace(model, mx.array(x)).routers) == blocks


def test_a_stored_answer_of_timm(tmp_path):
    """What `test_the_stored_answer_is_timms` compares with timm itself."""
    path, stored = stored_network(tmp_path)
    model = load_timm(path)
    traced = trace(model, mx.array(images((2, 97, 97, 3))))
    assert np.abs(traced.output - stored["logits"]).max() <= 1e-4 * np.ptp(stored["logits"])
    assert np.abs(np.stack([router.weights for router in traced.routers]) - stored["routing"]).max() <= 1e-5
    assert model.info["input"] == {
        "size": 224,
        "channels": 3,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop": 0.875,
        "interpolation": "bicubic",
    }
    assert model.info["labels"][207] == "golden retriever" and not model.training

    save_model(model, tmp_path / "ours.safetensors", dtype=mx.float32)
    again = load_model(tmp_path / "ours.safetensors")
    assert again.info == json.loads(json.dumps(model.info))
    assert mx.array_equal(again(mx.ones((1, 64, 64, 3))), model(mx.ones((1, 64, 64, 3))))


def test_stored_gradients_of_timm(tmp_path):
    path, stored = stored_network(tmp_path)
    ours = gradients(load_timm(path), images((2, 97, 97, 3)), images((2, 1000), seed=1))
    for name in GRADIENTS:
        wanted = stored[f"gradient of {name}"]
        assert relative_error(ours[name], wanted) <= 1e-3, name


def test_the_stored_answer_is_timms(pair):
    torch, _ = timm_or_skip()
    network, model, path = published(pair, "tf_efficientnet_cc_b0_4e")
    (logits, routing), _ = theirs_and_ours(network, model, images((2, 97, 97, 3)))
    stored = np.load(FIXTURE)
    theirs = timm_gradients(torch, network, images((2, 97, 97, 3)), images((2, 1000), seed=1))
    for name in GRADIENTS:
        assert relative_error(stored[f"gradient of {name}"], theirs[name]) <= 1e-3, name
    for name, value in network.state_dict().items():
        if "running" in name:
            assert np.allclose(stored[name], value.numpy(), rtol=1e-3, atol=1e-4), name
    assert np.allclose(stored["logits"], logits, atol=1e-4 * np.ptp(logits))
    assert np.allclose(stored["routing"], np.stack(routing), atol=1e-5)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"blocks.4.0.routing_fn.bias": None}, "the first: blocks.4.0.routing_fn.bias is missing"),
        ({"extra.weight": mx.zeros((2,))}, "1 arrays differ; the first: extra.weight has no place"),
        ({"blocks.0.0.conv_dw.weight": mx.zeros((32, 1, 5, 5))}, r"has shape \(32, 1, 5, 5\), wanted is \(32, 1, 3, 3"),
        ({"conv_stem.weight": None}, "lacks conv_stem.weight and classifier.bias"),
    ],
)
def test_files_that_do_not_fit(tmp_path, changes, says):
    path, _ = stored_network(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=says) as caught:
        load_timm(path)
    assert str(path) in str(caught.value)


def test_other_files(tmp_path):
    with pytest.raises(CheckpointError, match="no network of timm's that is known here"):
        write_arrays(tmp_path / "a.safetensors", {"weight": mx.zeros(3)}, {})
        load_timm(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="There is no file"):
        load_timm(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="Did you mean tf_efficientnet_cc_b0_4e"):
        load_timm("tf_efficientnet_cc_b0_4")
    path, _ = stored_network(tmp_path)
    with pytest.raises(ValueError, match="no such setting"):
        load_timm(path, paddings="same")
    with pytest.raises(ValueError, match="1000 classes, got 2 labels"):
        load_timm(path, labels=["a", "b"])
    with pytest.raises(ValueError, match=r"\[timm_arrays\] timm has"):
        timm_arrays(create_model("condconv_small", width=4))


def test_half_precision_and_settings(tmp_path):
    path, stored = stored_network(tmp_path)
    arrays = {name: value.astype(mx.float16) for name, value in mx.load(str(path)).items()}
    write_arrays(tmp_path / "half.safetensors", arrays, {})
    model = load_timm(tmp_path / "half.safetensors", router_dropout=0.1)
    assert model.stem.weight.dtype == mx.float32 and model.config["router_dropout"] == 0.1
    assert np.abs(np.array(model(mx.array(images((2, 97, 97, 3))))) - stored["logits"]).max() < 0.05


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_widths_follow_from_the_shapes(tmp_path, width):
    ours = create_model("mobilenet_v1", num_classes=7, num_experts=2, width=width, in_channels=1)
    arrays = {name: mx.array(value) for name, value in random_arrays(ours).items()}
    for name, theirs in timm_arrays(ours).items():
        if "running" in name:
            arrays[theirs.name] = mx.ones(theirs.shape)
    write_arrays(tmp_path / "own.safetensors", arrays, {})
    model = load_timm(tmp_path / "own.safetensors", labels=list("abcdefg"))
    assert model.config == ours.config
    assert model.info["labels"] == list("abcdefg") and "input" not in model.info


def test_the_kernels_can_be_exported(tmp_path):
    """MLX 0.32.4 would write a transposed view as what lies in memory."""
    path, _ = stored_network(tmp_path)
    model, x = load_timm(path), mx.array(images((1, 64, 64, 3)))
    mx.export_function(str(tmp_path / "model.mlxfn"), lambda x: model(x), x)
    assert mx.allclose(mx.import_function(str(tmp_path / "model.mlxfn"))(x)[0], model(x), rtol=1e-4, atol=1e-5)
