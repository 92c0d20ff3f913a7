"""What is measured, as plain numbers; both sides, MLX and torch, build from these."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A convolution of `examples` square images, with as much padding as keeps their size at stride 1."""

    examples: int
    size: int
    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    depthwise: bool = False

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def groups(self) -> int:
        return self.in_channels if self.depthwise else 1

    @property
    def images(self) -> str:
        """`"16×32×32"`."""
        return f"{self.examples}×{self.size}×{self.size}"

    @property
    def convolution(self) -> str:
        """`"32→64, 3×3/2"`."""
        channels = f"{self.in_channels} each" if self.depthwise else f"{self.in_channels}→{self.out_channels}"
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"{channels}, {self.kernel}×{self.kernel}{stride}"

    @property
    def parameters(self) -> int:
        """Of one kernel."""
        return self.out_channels * self.kernel**2 * self.in_channels // self.groups

    @property
    def positions(self) -> int:
        """At which the kernel is applied to an image."""
        return ((self.size + 2 * self.padding - self.kernel) // self.stride + 1) ** 2

    def __str__(self) -> str:
        return f"{self.images}, {self.convolution}"


EXPERTS = 8
# Layers of networks for one photograph, of small networks in training, and depthwise ones.
SHAPES = (
    Shape(1, 56, 64, 64, 3),
    Shape(1, 14, 112, 672, 1),
    Shape(1, 7, 960, 160, 1),
    Shape(16, 32, 32, 32, 3),
    Shape(16, 16, 64, 64, 3),
    Shape(16, 8, 128, 128, 3),
    Shape(16, 32, 32, 64, 3, stride=2),
    Shape(64, 16, 64, 64, 3),
    Shape(128, 28, 16, 32, 3),
    Shape(1, 14, 672, 672, 5, depthwise=True),
    Shape(16, 28, 144, 144, 3, stride=2, depthwise=True),
)

EXPERT_COUNTS = (1, 2, 4, 8, 16, 32)
INFERENCE_SHAPE = Shape(1, 14, 112, 672, 1)
TRAINING_SHAPE = Shape(64, 16, 64, 64, 3)

# To be measured while others wait: in inference one image, in training so few that one run takes about 100 ms on two
# cores. By where they are from.
LIVE = {
    "EfficientNet-B0": (INFERENCE_SHAPE, Shape(2, 14, 112, 672, 1)),
    "a usual 3×3 layer": (Shape(1, 16, 64, 64, 3), Shape(8, 16, 64, 64, 3)),
    "condconv_small, blocks.1": (Shape(1, 16, 36, 108, 3), Shape(8, 16, 36, 108, 3)),
    "condconv_small, blocks.2": (Shape(1, 8, 108, 144, 3), Shape(8, 8, 108, 144, 3)),
}


@dataclass(frozen=True)
class TrainingCase:
    """A network of 3×3 convolutions, the first static and the others CondConv, and its batch.

    Each convolution (Cin, O, stride) is followed by batch norm and ReLU; then mean pool and a linear classifier.
    """

    convolutions: tuple[tuple[int, int, int], ...] = (
        (1, 16, 1),
        (16, 32, 2),
        (32, 32, 1),
        (32, 64, 2),
        (64, 64, 1),
        (64, 128, 2),
    )
    experts: int = 4
    size: int = 28
    batch: int = 128
    classes: int = 10


@dataclass(frozen=True)
class Recipe:
    """How shipped weights were trained, which their file says.

    Attributes:
        weights: their name.
        images: in an epoch.
        target: seconds that an epoch should take on two cores; None for a twin that is there to compare with.
    """

    weights: str
    images: int
    target: float | None = None


RECIPES = (
    Recipe("condconv_small_fashion_mnist", 60_000, 60),
    Recipe("condconv_small_cifar10", 50_000, 200),
    Recipe("condconv_small_static_cifar10", 50_000),
    Recipe("condconv_small_static_fashion_mnist", 60_000),
)
INPUT_SHARE = 0.05  # of a step, at most

# Kinds of layers into which a network's time is divided.
POINTWISE = "pointwise convolutions"
DEPTHWISE = "depthwise convolutions"
NORM = "normalisation and activation"
SQUEEZE = "squeeze-and-excitation"
REST = "stem, routers, classifier"
CONDITIONAL = "CondConv convolutions"
STATIC = "static convolutions"
ROUTING = "routers and classifier"
POOLING = "max pooling"
