"""The page Route: what the network makes of the chosen picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from app_material import EXPERTS, bomb, figure, go_to, noise, numbers, open_app, png, save_untrained, texts, upload
from PIL import Image

from condconv_mlx.app import engine
from condconv_mlx.app.pictures import SAMPLES, samples
from condconv_mlx.data import Box, fit_image

FASHION = "condconv_small_fashion_mnist"
STATIC = "condconv_small_static_cifar10"


def test_opens_with_a_routed_sample(weights: Path) -> None:
    app = open_app()
    assert not app.exception and not app.error
    bars, heatmap = figure(app, "classes"), figure(app, "routing")
    assert bars is not None and heatmap is not None
    assert len(bars.data[0].y) == 10
    assert numbers(heatmap.data[0].z).shape[1] == EXPERTS
    assert len(heatmap.layout.yaxis.ticktext) == 3
    assert "Knows ten things: airplane, automobile," in texts(app.caption)
    assert "answers with one of them" in texts(app.caption)
    assert "90.1 % of held-out images" in texts(app.caption)
    assert "Wikimedia Commons" in texts(app.caption)
    labels = [button.label for button in app.get("download_button")]
    assert labels[-3:] == ["Predictions (CSV)", "Routing weights (CSV)", "Both (JSON)"]


def test_the_chart_shows_what_the_engine_says(weights: Path) -> None:
    app = open_app(image="horses", layer="classifier")
    horses = next(picture for picture in samples("cifar10") if picture.id == "horses")
    heatmap = figure(app, "routing")
    assert heatmap is not None
    answer = engine.run("condconv_small_cifar10", fit_image(horses.image, 32, 3)[None])
    np.testing.assert_allclose(numbers(heatmap.data[0].z), [routing.weights[0] for routing in answer.routing])
    assert heatmap.layout.yaxis.ticktext[-1] == "<b>classifier</b>"


def test_address_keeps_the_choice(weights: Path) -> None:
    app = open_app(image="truck", layer="blocks.2.conv2", model="condconv_small_cifar10", expert="3")
    assert "#### Truck, drawn" in texts(app.markdown)
    app.button_group(key="image").set_value("coffee").run()
    assert "none of these" in texts(app.caption)
    # A click on a page clears the address, and the app fills it again.
    app = go_to(app, "kernels")
    assert app.selectbox(key="layer").value == "blocks.2.conv2"
    app.selectbox(key="layer").set_value("classifier").run()
    wanted = {"image": "coffee", "layer": "classifier", "expert": "3", "model": "condconv_small_cifar10"}
    assert {key: app.query_params[key] for key in wanted} == wanted
    app = go_to(app, "")
    assert app.button_group(key="image").value == "coffee"
    assert {key: app.query_params[key] for key in wanted} == wanted


def test_a_layer_leads_to_its_kernels(weights: Path) -> None:
    app = open_app(layer="classifier", image="dog")
    app.button(key="to kernels").click().run()
    assert not app.exception and app.selectbox(key="layer").value == "classifier"
    assert figure(app, "experts") is not None
    assert (app.query_params["layer"], app.query_params["image"]) == ("classifier", "dog")


def test_a_wrong_address_does_no_harm(weights: Path) -> None:
    app = open_app(image="../../etc/passwd", layer="nonsense", model="no model")
    assert not app.exception and not app.error
    assert app.query_params["image"] == samples("cifar10")[0].id


def test_static_network_has_nothing_to_route(weights: Path) -> None:
    app = open_app(layer="classifier")
    app.selectbox(key="model").set_value(STATIC).run()
    assert figure(app, "classes") is not None
    assert figure(app, "routing") is None
    assert "static" in texts(app.info)
    assert [button.label for button in app.get("download_button")][-2:] == ["Predictions (CSV)", "Predictions (JSON)"]
    app.selectbox(key="model").set_value("condconv_small_cifar10").run()
    assert figure(app, "routing") is not None and not app.info


def test_fashion_turns_dark_garments_light(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = last_run(monkeypatch)
    app = open_app(model=FASHION)
    assert "Ankle boot" in texts(app.caption)
    assert app.toggle[0].value is False
    garment = np.full((60, 60, 3), 255, dtype=np.uint8)
    garment[15:45, 15:45] = 40
    app = upload(app, ("shirt.png", png(garment)))
    assert app.toggle[0].value is True
    assert seen().shape[1:] == (28, 28, 1)
    assert seen()[0, 0, 0, 0] == 0 and seen()[0, 14, 14, 0] > 200
    app.toggle[0].set_value(False).run()
    assert seen()[0, 0, 0, 0] == 255 and seen()[0, 14, 14, 0] < 60
    # The switch is remembered when another picture has been looked at.
    app.button_group(key="image").set_value("fashion-bag").run()
    assert seen()[0, 0, 0, 0] == 255


def last_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[], np.ndarray]:
    """What the engine was last given."""
    kept: list[np.ndarray] = []
    run = engine.run

    def noted(name: str, images: np.ndarray) -> engine.Answer:
        kept.append(images)
        return run(name, images)

    monkeypatch.setattr(engine, "run", noted)
    return lambda: kept[-1]


def test_a_real_photograph(weights: Path) -> None:
    app = upload(open_app(), ("holiday.jpg", (SAMPLES / "dog.jpg").read_bytes()))
    assert not app.error
    assert figure(app, "routing") is not None


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("cut.png", noise(3)[:900], "damaged"),
        ("empty.png", b"", "empty"),
        ("bomb.png", bomb(), "megapixels"),
        ("letter.png", b"Dear reader, this is no picture.", "not a picture"),
    ],
    ids=["corrupt", "empty", "bomb", "renamed"],
)
def test_a_bad_upload_has_its_message_and_the_good_ones_go_on(weights: Path, name: str, data: bytes, says: str) -> None:
    app = upload(open_app(), (name, data), ("good.png", noise(4)))
    assert not app.exception
    message = texts(app.error)
    assert name in message and says in message
    assert "#### good.png" in texts(app.markdown)
    assert figure(app, "routing") is not None


def test_names_of_files_are_shown_as_they_are(weights: Path) -> None:
    app = upload(open_app(), ("![x](http://example.org/x.png) *b*.png", b"?"))
    assert texts(app.error).startswith("![x](http://example.org/x.png) *b*.png")
    assert "![" not in app.error[0].value and "](" not in app.error[0].value


def test_crop_moves_what_the_network_sees(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = last_run(monkeypatch)
    halves = np.zeros((40, 80, 3), dtype=np.uint8)
    halves[:, 40:] = 255
    app = upload(open_app(), ("halves.png", png(halves)))
    assert seen()[0, 16, 2, 0] < 30 and seen()[0, 16, -3, 0] > 220
    size, across, down = app.slider
    assert (size.value, across.value, down.value, down.disabled) == (100, 50, 50, True)
    across.set_value(100).run()
    assert seen()[0].min() > 220
    next(button for button in app.button if button.label == "Reset").click().run()
    assert app.slider[1].value == 50
    assert seen()[0, 16, 2, 0] < 30


def test_a_link_keeps_crop_and_inversion(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = last_run(monkeypatch)
    halves = np.zeros((40, 80, 3), dtype=np.uint8)
    halves[:, 40:] = 255
    app = upload(open_app(model=FASHION), ("halves.png", png(halves)))
    app.slider[1].set_value(100).run()
    app.toggle[0].set_value(True).run()
    wanted = seen()
    link = {key: value if isinstance(value, str) else value[0] for key, value in app.query_params.items()}
    assert (link["crop"], link["invert"]) == ("100,100,50", "1")
    again = open_app(**link)
    np.testing.assert_array_equal(seen(), wanted)
    assert again.slider[1].value == 100 and again.toggle[0].value is True
    for wrong in ("a,b,c", "1,2", "300,0,0", "-1,0,0"):
        assert not open_app(crop=wrong, invert="x").exception


def test_a_network_may_bring_a_crop_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    save_untrained(tmp_path, "net", crop=0.5, interpolation="bicubic")
    seen = last_run(monkeypatch)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    app = upload(open_app(), ("noise.png", png(pixels)))
    image = Image.fromarray(pixels)
    own = fit_image(image, 32, 3, crop=0.5, interpolation="bicubic")
    np.testing.assert_array_equal(seen()[0], own)
    assert app.slider[0].value == 50 and not app.slider[1].disabled
    app.slider[0].set_value(100).run()
    np.testing.assert_array_equal(seen()[0], fit_image(image, 32, 3, Box(10, 0, 60), interpolation="bicubic"))
    next(button for button in app.button if button.label == "Reset").click().run()
    assert app.slider[0].value == 50
    np.testing.assert_array_equal(seen()[0], own)


def test_damaged_weights_are_named_and_the_others_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    save_untrained(tmp_path, "good")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    app = open_app()
    assert "bad.safetensors" in texts(app.error)
    assert figure(app, "routing") is not None


def test_no_weights_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    app = open_app()
    assert not app.exception
    assert "no weights" in texts(app.error)


def test_an_unexpected_error_is_told_without_a_traceback(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, images: np.ndarray) -> None:
        raise RuntimeError("the *moon* is full")

    monkeypatch.setattr(engine, "run", fail)
    app = open_app()
    assert not app.exception
    assert "RuntimeError: the *moon* is full" in texts(app.error)
    assert "Traceback" not in texts(app.error)
