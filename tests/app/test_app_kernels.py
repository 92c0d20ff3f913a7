"""The page Kernels."""

from pathlib import Path

from app_material import EXPERTS, figure, open_app


def test_every_layer_shows_its_kernels(weights: Path) -> None:
    app = open_app("kernels")
    for layer in app.selectbox(key="layer").options:
        app.selectbox(key="layer").set_value(layer).run()
        assert not app.exception and not app.error
        mixed, experts = figure(app, "mixed"), figure(app, "experts")
        assert mixed is not None and experts is not None
        assert len(experts.data) == EXPERTS
        assert mixed.layout.coloraxis.cmax == experts.layout.coloraxis.cmax == -experts.layout.coloraxis.cmin


def test_output_channel_stays_where_it_was_put(weights: Path) -> None:
    app = open_app("kernels", layer="classifier")
    key = "channel condconv_small_cifar10 classifier"
    assert app.selectbox(key=key).label == "Class"
    app.selectbox(key=key).set_value(7).run()
    app.button_group(key="image").set_value("dog").run()
    assert app.selectbox(key=key).value == 7
