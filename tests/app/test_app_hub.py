"""Published weights in the app: asked for before they are fetched, from a loopback server that answers as the hub."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_material import figure, go_to, open_app, texts

from condconv_mlx.app import downloads, engine, models
from condconv_mlx.app.choices import knows

sys.path.append(str(Path(__file__).parents[1] / "convert"))
from hub_server import Server, safetensors
from timm_material import FIXTURE, random_arrays

SHIPPED = "condconv_small_cifar10"
NAME = "tf_efficientnet_cc_b0_4e"
WEIGHTS = f"timm/{NAME}.in1k/model.safetensors"
CHART = "classes"


@pytest.fixture(scope="module")
def content() -> bytes:
    """Random weights as timm's file has them."""
    from condconv_mlx import create_model

    arrays = random_arrays(create_model("efficientnet_b0", num_classes=1000, num_experts=4))
    stored = np.load(FIXTURE)
    return safetensors(arrays | {name: stored[name] for name in stored.files if "running" in name})


@pytest.fixture
def server(content: bytes, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A hub with one network, an empty cache, and untrained weights in the place of the shipped ones."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    # Proxies are read when a session opens.
    close_session()
    with Server() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        running.files = {WEIGHTS: content}
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.shutdown()


def test_published_models_come_last_and_are_not_fetched(server: Server) -> None:
    published = models.published()
    assert models.names()[-len(published) :] == list(published)
    model = published[NAME]
    assert (model.network, model.num_experts, model.megabytes, model.here) == ("EfficientNet-B0", 4, 53, False)
    assert model.source == f"huggingface.co/timm/{NAME}.in1k"
    assert published["tf_efficientnet_b0"].num_experts is None
    assert not server.requests


def test_two_who_ask_download_once(server: Server, content: bytes) -> None:
    first = downloads.start(NAME, 53)
    assert downloads.start(NAME, 53) is downloads.running(NAME) is first
    assert first.wait(60)
    assert first.over and downloads.running(NAME) is None
    assert first.done == first.total == len(content)
    assert [request[:2] for request in server.requests].count(("GET", WEIGHTS)) == 1
    assert models.published()[NAME].here


def test_a_failure_says_what_to_do_and_can_be_tried_again(server: Server) -> None:
    from condconv_mlx.convert import HubError

    server.status = 503
    failed = downloads.start(NAME, 53)
    with pytest.raises(HubError, match="could not be downloaded from .* 503 Service Unavailable"):
        failed.wait(60)
    assert failed.over and downloads.running(NAME) is None
    server.status = 0
    assert downloads.start(NAME, 53).wait(60)


def test_mlx_works_while_a_download_runs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from condconv_mlx.convert import hub

    go_on = threading.Event()
    monkeypatch.setattr(hub, "fetch", lambda name, report: go_on.wait(60))
    download = downloads.start(NAME, 53)
    assert engine.run(SHIPPED, np.zeros((1, 32, 32, 3), np.uint8)).probabilities.shape == (1, 10)
    assert not download.wait(0) and not download.over
    go_on.set()
    assert download.wait(60)


def test_a_published_model_answers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from condconv_mlx.checkpoint import CheckpointError

    with pytest.raises(CheckpointError, match="no longer there"):
        models.describe(NAME)
    downloads.start(NAME, 53).wait(60)
    card = models.describe(NAME)
    assert (card.dataset, card.size, card.channels, card.num_experts) == ("imagenet", 224, 3, 4)
    assert (len(card.labels), card.labels[0], card.accuracy) == (1000, "tench", None)
    assert (card.crop, card.interpolation) == (0.875, "bicubic")

    batches: list[int] = []
    compute = engine._compute

    def noted(model: Any, images: np.ndarray) -> Any:
        batches.append(len(images))
        return compute(model, images)

    monkeypatch.setattr(engine, "_compute", noted)
    images = np.random.default_rng(0).integers(0, 256, (6, 224, 224, 3), dtype=np.uint8)
    answer = engine.run(NAME, images)
    # 64 such pictures at once would take gigabytes.
    assert batches == [5, 1]
    assert answer.probabilities.shape == (6, 1000) and len(answer.routing) == 8
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, rtol=1e-5)
    depthwise = next(layer for layer in answer.routing[0].layers if layer.endswith("depthwise"))
    assert engine.kernels(NAME, depthwise, answer.routing[0].weights[0]).experts.shape[-1] == 1


def test_models_are_kept_within_bounds(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads.start(NAME, 53).wait(60)
    monkeypatch.setattr(engine, "KEPT_BYTES", 2**20)
    models.describe(NAME)
    assert list(engine._models) == [NAME]
    engine.run(SHIPPED, np.zeros((1, 32, 32, 3), np.uint8))
    assert list(engine._models) == [SHIPPED]


def test_the_page_asks_first(server: Server) -> None:
    app = open_app(model=SHIPPED)
    options = app.selectbox(key="model").options
    assert "ImageNet photos · EfficientNet-B0 · 4 experts · ↓ 53 MB" in options
    assert "ImageNet photos · EfficientNet-B0 · static · ↓ 21 MB" in options
    app.selectbox(key="model").set_value(NAME).run()
    assert not app.exception and not app.error
    assert f"53 MB from [huggingface.co/timm/{NAME}.in1k]" in texts(app.markdown)
    assert app.button(key="download").label == "Download 53 MB" and not app.button(key="download").disabled
    assert app.query_params["model"] == NAME
    assert figure(app, CHART) is None
    assert not server.requests
    app.selectbox(key="model").set_value(SHIPPED).run()
    assert figure(app, CHART) is not None


def test_a_click_downloads_and_the_page_goes_on(server: Server) -> None:
    app = open_app(model=NAME)
    assert not server.requests
    app.button(key="download").click().run()
    assert not app.exception and not app.error
    assert "download" not in {button.key for button in app.button}
    assert app.selectbox(key="model").value == NAME
    assert "ImageNet photos · EfficientNet-B0 · 4 experts" in app.selectbox(key="model").options
    bars, routing = figure(app, CHART), figure(app, "routing")
    assert bars is not None and routing is not None
    assert len(bars.data[0].y) == 10
    assert len(routing.layout.yaxis.ticktext) == 8
    assert "and 995 more" in texts(app.caption)
    # ImageNet has names for much of what the samples show.
    assert "none of these" not in texts(app.caption)
    app = go_to(app, "kernels")
    app.selectbox(key="layer").set_value("blocks.9.depthwise").run()
    assert not app.exception and not app.error
    change = figure(app, "change")
    assert change is not None and "input channel" not in change.data[0].hovertemplate
    assert app.query_params["layer"] == "blocks.9.depthwise"


def test_a_download_that_fails_leaves_the_button(server: Server) -> None:
    server.status = 503
    app = open_app(model=NAME)
    app.button(key="download").click().run()
    assert not app.exception
    assert "it answered 503 Service Unavailable" in texts(app.error)
    assert not app.button(key="download").disabled
    assert figure(app, CHART) is None
    app.selectbox(key="model").set_value(SHIPPED).run()
    assert figure(app, CHART) is not None and not app.error
    server.status = 0
    app.selectbox(key="model").set_value(NAME).run()
    app.button(key="download").click().run()
    assert figure(app, CHART) is not None and not app.error


def test_a_damaged_file_is_named_and_the_others_serve(server: Server) -> None:
    server.files[WEIGHTS] = b"not weights" * 100
    app = open_app(model=NAME)
    app.button(key="download").click().run()
    assert not app.exception
    assert "damaged" in texts(app.error)
    app.selectbox(key="model").set_value(SHIPPED).run()
    assert figure(app, CHART) is not None and not app.error


def test_many_classes_are_not_all_named() -> None:
    assert knows(["a", "b", "c"]) == "Knows three things: a, b and c."
    for count in (31, 33, 1000):
        sentence = knows([f"<{i}>" for i in range(count)])
        assert sentence.startswith(f"Knows {count:,} things: <0>, ") and sentence.endswith(f" and {count - 5} more.")
        assert sentence.count("<") == 5
