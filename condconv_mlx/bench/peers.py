"""The same layer and network in torch, with timm's `CondConv2d`, where both are installed. They are no dependencies."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from condconv_mlx.bench.cases import DEPTHWISE, NORM, POINTWISE, REST, SQUEEZE, Shape, TrainingCase
from condconv_mlx.bench.timing import Work


@dataclass(frozen=True)
class Peer:
    """Another implementation to measure.

    Attributes:
        name: with versions, `"timm 1.0.31, torch 2.13.0"`.
        device: where it computes, `"cpu"`, `"cuda"` or `"mps"`.
        layer: a shape and a number of experts to two works: forward, and forward with all gradients.
        training_step: a case to the work of one optimiser step.
        network: a size of image to the work of one image through EfficientNet-B0 with 8 experts, and to milliseconds
            by kind of layer of such a pass.
    """

    name: str
    device: str
    layer: Callable[[Shape, int], tuple[Work, Work]]
    training_step: Callable[[TrainingCase], Work]
    network: Callable[[int], tuple[Work, Callable[[], Mapping[str, float]]]]


def load_peer(threads: int, on_gpu: bool, shared: bool = True) -> Peer | None:
    """timm's layer on the kind of device that MLX uses, with as many threads; None if timm or torch is not here.

    In a process that is `shared` with MLX, torch's threads sleep while they wait: those that spin take a core from MLX,
    and OpenBLAS's one from them, so that a call of a millisecond may take thirty.
    """
    if shared:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch

        with without_torchvision_operators(torch):
            import timm
            from timm.layers import CondConv2d
    except ImportError:
        return None
    torch.set_num_threads(threads)
    device = _device(torch) if on_gpu else "cpu"
    if device != "cpu":
        # MLX multiplies float32 in TF32 where a GPU can.
        torch.set_float32_matmul_precision("high")
    return Peer(
        name=f"timm {timm.__version__}, torch {torch.__version__}",
        device=device,
        layer=lambda shape, experts: _layer(torch, CondConv2d, device, shape, experts),
        training_step=lambda case: _training_step(torch, CondConv2d, device, case),
        network=lambda size: _network(torch, timm, device, size),
    )


@contextmanager
def without_torchvision_operators(torch: Any) -> Iterator[None]:
    """timm imports torchvision, which fails to describe its compiled operators where it was built without them."""
    register = torch.library.register_fake

    def register_fake(name: Any, *rest: Any, **options: Any) -> Any:
        if str(name).startswith("torchvision::"):
            return lambda function: function
        return register(name, *rest, **options)

    torch.library.register_fake = register_fake
    try:
        yield
    finally:
        torch.library.register_fake = register


def _device(torch: Any) -> str:
    if torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() else "cpu"


def _waiting(torch: Any, device: str, work: Work) -> Work:
    """The work, over when the device is done."""
    if device == "cpu":
        return work
    wait = torch.mps.synchronize if device == "mps" else torch.cuda.synchronize
    return lambda: (work(), wait())


def _layer(torch: Any, cond_conv2d: Any, device: str, shape: Shape, experts: int) -> tuple[Work, Work]:
    layer = cond_conv2d(
        shape.in_channels,
        shape.out_channels,
        shape.kernel,
        shape.stride,
        shape.padding,
        1,
        shape.groups,
        num_experts=experts,
    ).to(device)
    size = (shape.examples, shape.in_channels, shape.size, shape.size)
    x = torch.randn(size, device=device, requires_grad=True)
    routing_weights = torch.rand((shape.examples, experts), device=device, requires_grad=True)
    cotangent = torch.ones_like(layer(x, routing_weights))

    def forward() -> None:
        with torch.inference_mode():
            layer(x, routing_weights)

    def both() -> None:
        torch.autograd.grad(layer(x, routing_weights), (x, routing_weights, layer.weight), cotangent)

    return _waiting(torch, device, forward), _waiting(torch, device, both)


def _training_step(torch: Any, cond_conv2d: Any, device: str, case: TrainingCase) -> Work:
    nn = torch.nn
    module: Any = nn.Module

    class Routed(module):
        """timm's layer with a router of its own."""

        def __init__(self, channels: int, out: int, stride: int):
            super().__init__()
            self.router = nn.Linear(channels, case.experts)
            self.convolution = cond_conv2d(channels, out, 3, stride, 1, num_experts=case.experts)

        def forward(self, x: Any) -> Any:
            return self.convolution(x, torch.sigmoid(self.router(x.mean((2, 3)))))

    modules = []
    for number, (channels, out, stride) in enumerate(case.convolutions):
        static = number == 0
        modules += [
            nn.Conv2d(channels, out, 3, stride, 1, bias=False) if static else Routed(channels, out, stride),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        ]
    modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(case.convolutions[-1][1], case.classes)]
    model = nn.Sequential(*modules).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn((case.batch, case.convolutions[0][0], case.size, case.size), device=device)
    labels = torch.randint(case.classes, (case.batch,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return _waiting(torch, device, step)


def _network(torch: Any, timm: Any, device: str, size: int) -> tuple[Work, Callable[[], Mapping[str, float]]]:
    model = timm.create_model("tf_efficientnet_cc_b0_8e", pretrained=False).to(device).eval()
    x = torch.randn((1, 3, size, size), device=device)
    layers = {module: kind for name, module in model.named_modules() if (kind := _kind(name))}

    def forward() -> None:
        with torch.inference_mode():
            model(x)

    work = _waiting(torch, device, forward)

    def parts() -> Mapping[str, float]:
        times = dict.fromkeys(layers.values(), 0.0)
        started: dict[Any, float] = {}

        def begin(module: Any, _: Any) -> None:
            _waiting(torch, device, lambda: None)()
            started[module] = time.perf_counter()

        def end(module: Any, _: Any, __: Any) -> None:
            _waiting(torch, device, lambda: None)()
            times[layers[module]] += 1e3 * (time.perf_counter() - started[module])

        hooks = [
            hook
            for module in layers
            for hook in (module.register_forward_pre_hook(begin), module.register_forward_hook(end))
        ]
        try:
            work()
        finally:
            for hook in hooks:
                hook.remove()
        return times

    return work, parts


def _kind(name: str) -> str | None:
    """The kind of one of timm's layers, or None, as in `condconv_mlx.bench.network`."""
    last = name.rsplit(".", 1)[-1]
    if last in ("bn1", "bn2", "bn3"):  # timm's holds the activation, too
        return NORM
    if last in ("conv_pw", "conv_pwl", "conv_head"):
        return POINTWISE
    kinds = {"conv_dw": DEPTHWISE, "se": SQUEEZE}
    return kinds.get(last, REST if last in ("conv_stem", "routing_fn", "classifier") else None)
