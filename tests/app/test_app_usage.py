"""The page Usage: every look at the pictures of the tray and of a data set, and slices of them."""

from pathlib import Path

import numpy as np
import pytest
from app_material import EXPERTS, figure, numbers, open_app, save_untrained, texts, upload
from app_material import noise as picture

from condconv_mlx.app import store
from condconv_mlx.app.usage_sections import SECTIONS

CHARTS = {
    "layers": "layers",
    "depth": "depth",
    "experts": "experts-by-class",
    "weights": "weights",
    "images": "images",
    "map": "map",
}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_look_at_the_tray(weights: Path, section: str) -> None:
    app = open_app("usage", section=section)
    assert not app.exception and not app.error
    chart = figure(app, CHARTS[section])
    assert chart is not None and chart.data
    assert app.query_params["section"] == section


def test_the_data_set(weights: Path, pictures: Path) -> None:
    app = open_app("usage", of="a data set", data=f"folder:{pictures}", count="16")
    # A link loads nothing by itself.
    assert figure(app, "layers") is None and not app.exception
    assert app.text_input[-1].value == str(pictures) and app.number_input[-1].value == 16
    look(app)
    assert not app.exception and not app.error
    assert "16 pictures" in app.selectbox(key="by").label
    app.button_group(key="section").set_value("experts").run()
    chart = figure(app, "experts-by-class")
    assert chart is not None
    assert list(chart.layout.yaxis.ticktext) == ["blue", "red"]
    means = numbers(chart.data[0].z)
    assert means.shape == (2, EXPERTS)
    # It is kept while other things change.
    app.selectbox(key="by").set_value("predicted").run()
    chart = figure(app, "experts-by-class")
    assert chart is not None and not set(chart.layout.yaxis.ticktext) & {"blue", "red"}


def look(app):
    next(button for button in app.button if button.label == "Look").click().run()


def test_a_data_set_that_is_not_there(weights: Path, tmp_path: Path) -> None:
    app = open_app("usage", of="a data set", data=f"folder:{tmp_path / 'nothing'}", count="16")
    look(app)
    assert not app.exception and "nothing" in texts(app.error)


def test_an_expert_and_the_pictures_that_call_on_it(weights: Path) -> None:
    app = open_app("usage", section="experts", expert="2")
    assert "Expert 2 of classifier" in texts(app.markdown)
    app.selectbox(key="layer").set_value("blocks.2.conv2").run()
    app.button_group(key="expert").set_value("3").run()
    assert "Expert 3 of blocks.2" in texts(app.markdown)
    assert app.query_params["expert"] == "3" and app.query_params["layer"] == "blocks.2.conv2"
    # Those pictures alone, and back.
    before = {button.key for button in app.button}
    app.button(key="take").click().run()
    assert not app.exception and not app.error
    tray = store.load_tray(app.query_params["tray"])
    assert tray is not None and len(tray.entries) == 8 and not tray.samples
    assert app.query_params["image"] == tray.entries[0].id
    assert "back" not in before
    app.button(key="back").click().run()
    assert "tray" not in app.query_params and "whole" not in app.query_params


def test_a_slice_of_ones_own_pictures(weights: Path) -> None:
    app = upload(open_app("usage"), *[(f"{seed}.png", picture(seed)) for seed in range(3)])
    mine = app.query_params["tray"]
    app.button_group(key="section").set_value("experts").run()
    app.button(key="take").click().run()
    assert app.query_params["tray"] != mine == app.query_params["whole"]
    app.button(key="back").click().run()
    assert app.query_params["tray"] == mine


def test_a_slice_of_a_data_set_becomes_the_tray(weights: Path, pictures: Path) -> None:
    app = open_app("usage", of="a data set", section="experts", data=f"folder:{pictures}", count="20")
    look(app)
    app.button(key="take").click().run()
    tray = store.load_tray(app.query_params["tray"])
    assert tray is not None and len(tray.entries) == 8
    assert {entry.truth for entry in tray.entries} <= {"blue", "red"}
    assert all(store.picture_path(entry.id).is_file() for entry in tray.entries)


def test_classes_and_depths_are_chosen(weights: Path) -> None:
    app = open_app("usage", section="depth")
    app.multiselect(key="depths").set_value([0]).run()
    chart = figure(app, "depth")
    assert chart is not None
    assert len({line.yaxis for line in chart.data}) == 1
    app.multiselect(key="depths").set_value([]).run()
    assert "at least one class and one depth" in texts(app.info)


def test_classes_order_the_pictures(weights: Path, pictures: Path) -> None:
    app = open_app("usage", of="a data set", section="images", data=f"folder:{pictures}", count="20")
    look(app)
    app.button_group(key="order").set_value("classes").run()
    chart = figure(app, "images")
    assert chart is not None
    names = [name.split()[0] for name in chart.layout.yaxis.ticktext]
    assert names == ["blue"] * 10 + ["red"] * 10


def test_a_map_in_the_colours_of_a_weight(weights: Path) -> None:
    app = open_app("usage", section="map")
    app.selectbox(key="map of").set_value(0).run()
    app.selectbox(key="map colour 0").set_value(1).run()
    chart = figure(app, "map")
    assert chart is not None and len(chart.data) == 1
    shades = numbers(chart.data[0].marker.color)
    assert shades.shape == (11,) and shades.min() >= 0 and shades.max() <= 1
    assert "Draw round" in texts(app.caption)


def test_experts_that_are_not_used_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlx.core as mx

    from condconv_mlx import load_model, save_model

    path = save_untrained(tmp_path, "condconv_small_cifar10")
    model = load_model(str(path))
    linear = model.classifier.router.linear
    linear.weight = mx.zeros_like(linear.weight)
    linear.bias = mx.array(np.array([-9.0, 9.0, 0.0, 0.5], np.float32))
    save_model(model, path)
    monkeypatch.setenv("CONDCONV_MLX_WEIGHTS", str(tmp_path))
    text = texts(open_app("usage").markdown)
    for state, number in (("Dead", 1), ("Always on", 2), ("Constant", 3)):
        line = next(line for line in text.splitlines() if state in line)
        assert "classifier" in line and f") {number}" in line
    assert ") 4" in line


@pytest.mark.parametrize("of", ["the tray", "a data set"])
def test_static_network(weights: Path, of: str) -> None:
    app = open_app("usage", model="condconv_small_static_cifar10", of=of)
    assert "static" in texts(app.info) and not app.exception


def test_one_picture_alone_is_too_few(weights: Path) -> None:
    entry = store.Entry(store.add_picture(picture(0), "a.png"), "a.png")
    app = open_app("usage", tray=store.save_tray(store.Tray((entry,), samples=False)))
    assert "One picture has nothing to be compared with" in texts(app.info) and not app.exception


@pytest.mark.parametrize("section", SECTIONS)
def test_two_pictures_are_enough(weights: Path, section: str) -> None:
    entries = tuple(store.Entry(store.add_picture(picture(seed), "a.png"), "a.png", "cat") for seed in range(2))
    app = open_app("usage", section=section, tray=store.save_tray(store.Tray(entries, samples=False)))
    assert figure(app, CHARTS[section]) is not None and not app.exception and not app.error


def test_a_wrong_address_does_no_harm(weights: Path) -> None:
    wrong = {"section": "x", "by": "x", "expert": "99", "layer": "x", "count": "9" * 12, "data": "x", "whole": "x"}
    for of in ("x", "a data set"):
        app = open_app("usage", of=of, **wrong)
        assert not app.exception and not app.error
    app = open_app("usage", **(wrong | {"section": "experts"}))
    assert not app.exception and not app.error and app.query_params["expert"] == "1"
