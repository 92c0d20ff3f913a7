"""timm's ImageNet weights of EfficientNet from the Hugging Face hub, and the pictures that they expect.

Files lie in the hub's own cache, which HF_HOME moves, so that other programs share them. HF_ENDPOINT names a mirror and
HF_HUB_OFFLINE forbids the network, as everywhere else where the hub is used.
"""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condconv_mlx.names import did_you_mean

HUB = "https://huggingface.co"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TAG = ".in1k"


class HubError(OSError):
    """Weights that are not here and cannot be fetched. The message says what to do.

    Attributes:
        reason: why, in a few words.
    """

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class HubModel:
    """Published weights. The defaults are those of the CondConv networks.

    Attributes:
        architecture: timm's name.
        megabytes: of the file, about.
        parameters: their number, without the statistics of batch normalisation.
        size: height and width of the input, in pixels.
        crop: share of the shorter side that `size` covers, see `condconv_mlx.data.fit_image`.
        mean, std: of the channels, on the scale [0, 1].
        interpolation: how pictures were shrunk.
    """

    architecture: str
    megabytes: int
    parameters: int
    size: int = 224
    crop: float = 0.875
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: str = "bicubic"

    @property
    def network(self) -> str:
        """The name that `create_model` takes."""
        return f"efficientnet_{self.architecture.split('_')[3 if self.experts else 2]}"

    @property
    def experts(self) -> int | None:
        """Of each CondConv layer; None is static."""
        last = self.architecture.rsplit("_", 1)[1]
        return int(last.removesuffix("e")) if last.endswith("e") else None

    @property
    def repo(self) -> str:
        """Where it lies on the hub."""
        return f"timm/{self.architecture}{TAG}"

    @property
    def address(self) -> str:
        """The file of weights, for a browser."""
        return f"{HUB}/{self.repo}/resolve/main/{WEIGHTS}"


HUB_MODELS = {
    model.architecture: model
    for model in (
        HubModel("tf_efficientnet_cc_b0_4e", 53, 13_314_116),
        HubModel("tf_efficientnet_cc_b0_8e", 96, 24_013_284),
        HubModel("tf_efficientnet_cc_b1_8e", 159, 39_715_968, size=240, crop=0.882),
        HubModel("tf_efficientnet_b0", 21, 5_288_548, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    )
}


def hub_model(name: str) -> HubModel:
    """The entry of `HUB_MODELS` for a name with or without ".in1k". ValueError for an unknown one, with near names."""
    known = name.removesuffix(TAG)
    if known not in HUB_MODELS:
        hint = did_you_mean(known, HUB_MODELS)
        raise ValueError(f'[hub] name must be one of {", ".join(HUB_MODELS)}, got "{name}".{hint}')
    return HUB_MODELS[known]


def cached(name: str) -> Path | None:
    """The file of weights if it is on this machine, else None. Never uses the network."""
    model = hub_model(name)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.repo, WEIGHTS)
    return Path(found) if isinstance(found, str) else None


def fetch(name: str, *, progress: bool = True, report: Callable[[int, int], None] | None = None) -> Path:
    """The file of weights on this machine, downloaded unless it is there already. `config.json` lies beside it.

    Args:
        name: one of `HUB_MODELS`, with or without ".in1k".
        progress: show a bar, on standard error and only in a terminal.
        report: called in place of the bar, with the bytes that are here and those of the whole file. They never go
            down; the call may come from a thread of the library's.

    Raises:
        ValueError: for an unknown name.
        HubError: if it cannot be had; the message says how to bring the file some other way.
    """
    model = hub_model(name)
    if found := cached(name):
        return found
    # The library lets errors of its HTTP client through, and that client is another package from version to version.
    try:
        return _download(model, _bar(progress, report))
    except Exception as error:
        reason = _reason(error)
        raise HubError(
            f"{model.architecture}{TAG} ({model.megabytes} MB) is not here and could not be downloaded from "
            f"{_endpoint() or HUB} ({reason}). Try again, or fetch {model.address} some other way and hand the "
            f'file over by its path: load_timm("path/to/{WEIGHTS}"), or condconv-mlx convert path/to/{WEIGHTS} '
            "out.safetensors",
            reason,
        ) from error


def preprocessing(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What the network expects of pictures: "size", "channels", "mean", "std", "crop" and "interpolation".

    A `config.json` of timm's in `folder` wins over what is known of `name`, if it is of the same architecture.
    Raises HubError if it is damaged.
    """
    model = hub_model(name)
    known = {
        "size": model.size,
        "channels": 3,
        "mean": list(model.mean),
        "std": list(model.std),
        "crop": model.crop,
        "interpolation": model.interpolation,
    }
    path = folder / CONFIG if folder else None
    if path is None or not path.is_file():
        return known
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("architecture") != model.architecture:
            return known
        return known | _told(config["pretrained_cfg"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} is damaged: remove it, and what is known of {model.architecture} is used"
        raise HubError(message, "damaged") from error


def _bar(progress: bool, report: Callable[[int, int], None] | None = None) -> Any:
    """A class of bars for the library: None is its own, the others are silent."""
    if progress and report is None:
        return None
    from huggingface_hub.utils import tqdm

    most = 0

    class Silent(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal most
            # Disabled, a bar does not count. There may be two of one file: what has arrived, and what is written.
            self.n += n or 0
            most = max(most, int(self.n))
            if report and self.total:
                report(min(most, int(self.total)), int(self.total))

    return Silent


def _download(model: HubModel, bar: Any) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    endpoint = _endpoint()
    # This fails at once where there is no network; a download would try again for half a minute, and say so each time.
    get_hf_file_metadata(hf_hub_url(model.repo, WEIGHTS, endpoint=endpoint), endpoint=endpoint)
    # First, so that it is there whenever the weights are.
    try:
        hf_hub_download(model.repo, CONFIG, endpoint=endpoint, tqdm_class=_bar(False))
    except RemoteEntryNotFoundError:
        pass
    return Path(hf_hub_download(model.repo, WEIGHTS, endpoint=endpoint, tqdm_class=bar))


def _endpoint() -> str | None:
    # The library reads it too, once, when it is imported.
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _reason(error: BaseException) -> str:
    """The cause in a few words: the library wraps what went wrong in long sentences about what it tried."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    causes = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) and inner not in causes:
        causes.append(inner)
    for cause in causes:
        response = getattr(cause, "response", None)
        if response is not None:
            return f"it answered {response.status_code} {response.reason_phrase}".rstrip()
        if isinstance(cause, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set"
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.strerror:
            room = "; HF_HOME can name a folder where there is room" if cause.errno == errno.ENOSPC else ""
            return f"{cause.strerror}{f': {cause.filename}' if cause.filename else ''}{room}"
    return next((" ".join(str(cause).split()) for cause in reversed(causes) if str(cause)), type(error).__name__)


def _told(cfg: dict[str, Any]) -> dict[str, Any]:
    """Those of our settings that timm's `pretrained_cfg` has."""
    told: dict[str, Any] = {}
    if cfg.get("input_size"):
        channels, size, _ = cfg["input_size"]
        told.update(channels=int(channels), size=int(size))
    for key in ("mean", "std"):
        if cfg.get(key):
            told[key] = [float(value) for value in cfg[key]]
    if cfg.get("crop_pct"):
        told["crop"] = float(cfg["crop_pct"])
    if cfg.get("interpolation"):
        told["interpolation"] = str(cfg["interpolation"])
    return told
