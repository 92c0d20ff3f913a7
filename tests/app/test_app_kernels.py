"""The page Kernels: the experts of a layer, and what they are mixed into."""

from pathlib import Path

import numpy as np
from app_material import EXPERTS, figure, go_to, numbers, open_app, texts

from condconv_mlx.app import engine
from condconv_mlx.app.pictures import samples
from condconv_mlx.app.views.kernels import scientific, table
from condconv_mlx.data import fit_image

NAME = "condconv_small_cifar10"


def test_every_layer_shows_its_kernels(weights: Path) -> None:
    app = open_app("kernels")
    for layer in app.selectbox(key="layer").options:
        app.selectbox(key="layer").set_value(layer).run()
        assert not app.exception and not app.error
        mixed, experts, change = (figure(app, key) for key in ("mixed", "experts", "change"))
        assert mixed is not None and experts is not None and change is not None
        assert len(experts.data) == len(mixed.frames) == EXPERTS
        assert mixed.layout.coloraxis.cmax == experts.layout.coloraxis.cmax == -experts.layout.coloraxis.cmin
        assert "which is rounding" in texts(app.markdown)
        # Of a classifier, a response is a number.
        assert (figure(app, "responses") is None) == (layer == "classifier")


def test_it_builds_up_to_the_mixed_kernel(weights: Path) -> None:
    app = open_app("kernels", layer="blocks.2.conv1", filter="5", image="dog")
    dog = next(picture for picture in samples("cifar10") if picture.id == "dog")
    routing = engine.run(NAME, fit_image(dog.image, 32, 3)[None]).routing
    weights_of_dog = next(one.weights[0] for one in routing if "blocks.2.conv1" in one.layers)
    wanted = engine.kernels(NAME, "blocks.2.conv1", weights_of_dog).mixed[4]
    mixed = figure(app, "mixed")
    assert mixed is not None
    shown = numbers(mixed.data[0].z)
    np.testing.assert_allclose(np.sort(shown[~np.isnan(shown)]), np.sort(wanted, axis=None), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numbers(mixed.frames[-1].data[0].z), shown)
    strongest = int(weights_of_dog.argmax())
    assert f"{strongest + 1} · {weights_of_dog.max():.2f}" in mixed.frames[0].layout.title.text


def test_a_filter_stays_while_its_layer_does(weights: Path) -> None:
    app = open_app("kernels", layer="classifier")
    assert app.selectbox(key="filter").label == "Class"
    app.selectbox(key="filter").set_value("7").run()
    app.button_group(key="image").set_value("dog").run()
    app = go_to(go_to(app, ""), "kernels")
    assert app.selectbox(key="filter").value == app.query_params["filter"] == "7"
    app.selectbox(key="layer").set_value("blocks.1.conv1").run()
    assert app.selectbox(key="filter").label == "Filter"
    # The one that changes most comes first.
    shares = [float(option.split(" · ")[1].split(" %")[0]) for option in app.selectbox(key="filter").options]
    assert shares == sorted(shares, reverse=True)
    assert app.selectbox(key="filter").index == 0


def test_two_pictures_side_by_side(weights: Path) -> None:
    app = open_app("kernels", image="cat", other="truck")
    assert app.selectbox(key="other").value == "truck"
    app.selectbox(key="other").set_value("frog").run()
    assert app.query_params["other"] == "frog"
    chart = figure(app, "other kernels")
    assert chart is not None
    left, right, apart = (numbers(trace.z) for trace in chart.data)
    np.testing.assert_allclose(apart, left - right, atol=1e-6)
    # A picture is not compared with itself.
    app.button_group(key="image").set_value("frog").run()
    assert app.selectbox(key="other").value != "frog"


def test_static_network_has_no_experts(weights: Path) -> None:
    app = open_app("kernels", model="condconv_small_static_cifar10")
    assert "static" in texts(app.info) and figure(app, "experts") is None


def test_kernels_as_a_table() -> None:
    header, rows = table({"a": np.arange(4.0).reshape(1, 2, 2), "b": np.zeros((1, 2, 2))})
    assert header == ["row", "column", "input channel", "a", "b"]
    assert rows[2] == [1, 2, 1, 2.0, 0.0]


def test_numbers_of_tiny_differences() -> None:
    assert (scientific(3.14e-7), scientific(1e-10), scientific(0.0)) == ("3·10⁻⁷", "1·10⁻¹⁰", "0")
