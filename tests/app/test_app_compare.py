"""The page Compare: two models, two pictures, what they cost, and what the address keeps."""

from pathlib import Path

import numpy as np
import pytest
from app_material import CIFAR10, EXPERTS, FASHION, figure, go_to, noise, numbers, open_app, save_untrained, texts
from streamlit.testing.v1 import AppTest

from condconv_mlx.app import compare_costs, engine, store
from condconv_mlx.app.choices import twin
from condconv_mlx.app.models import describe
from condconv_mlx.app.pictures import samples
from condconv_mlx.app.views.compare import apart
from condconv_mlx.complexity import count
from condconv_mlx.data import fit_image

MODEL, STATIC = "condconv_small_cifar10", "condconv_small_static_cifar10"


def pixels(size: int = 32, channels: int = 3) -> np.ndarray:
    """The samples as a network takes them."""
    return np.stack([fit_image(picture.image, size, channels) for picture in samples("cifar10")])


def probabilities(name: str) -> np.ndarray:
    return engine.run(name, pixels()).probabilities


@pytest.fixture(autouse=True)
def unmeasured() -> None:
    compare_costs.measurements().clear()


def shown(app: AppTest, key: str):
    chart = figure(app, key)
    assert chart is not None, key
    return chart


def test_opens_on_the_twin(weights: Path) -> None:
    app = open_app("compare")
    assert not app.exception and not app.error
    assert app.selectbox(key="against").value == STATIC and MODEL not in app.selectbox(key="against").options
    assert app.query_params["against"] == STATIC
    first, second = probabilities(MODEL), probabilities(STATIC)
    bars = shown(app, "classes-compared")
    for bar, wanted in zip(bars.data, (first[0], second[0]), strict=True):
        got = dict(zip(bar.y, numbers(bar.x), strict=True))
        assert got == pytest.approx({name: wanted[CIFAR10.index(name)] for name in got}, abs=2e-6)
    assert (bars.data[0].name, bars.data[1].name) == (f"{EXPERTS} experts", "static")
    text = texts(app.markdown)
    same = int((first.argmax(1) == second.argmax(1)).sum())
    assert f"the same answer for **{same} of {len(first)}** pictures" in text
    truths = [picture.truth for picture in samples("cifar10")]
    for name, found in ((f"{EXPERTS} experts", first), ("static", second)):
        right = sum(CIFAR10[row.argmax()] == truth for row, truth in zip(found, truths, strict=True))
        assert f"**{right}** by {name}" in text
    # One of the two routes.
    assert numbers(shown(app, "routing-1").data[0].z).shape == (3, EXPERTS) and figure(app, "routing-2") is None
    assert "**static** mixes nothing" in text


def test_every_picture_is_on_the_map_and_those_that_differ_can_be_chosen(weights: Path) -> None:
    app = open_app("compare")
    first, second = probabilities(MODEL), probabilities(STATIC)
    pictures = samples("cifar10")
    spots = {}
    for trace in shown(app, f"answers {pictures[0].id}").data:
        for x, y, said in zip(numbers(trace.x), numbers(trace.y), trace.customdata or [], strict=False):
            spots[int(said[0])] = (x, y, trace.name)
    assert sorted(spots) == list(range(len(pictures)))
    for n, picture in enumerate(pictures):
        about = CIFAR10.index(picture.truth) if picture.truth in CIFAR10 else int(first[n].argmax())
        assert spots[n][:2] == pytest.approx((first[n, about], second[n, about]), abs=2e-6)
        right = [CIFAR10[found[n].argmax()] == picture.truth for found in (first, second)]
        if picture.truth:
            wanted = {(1, 1): "both right", (0, 0): "both wrong", (1, 0): f"only {EXPERTS} experts right"}
            assert spots[n][2] == wanted.get(tuple(map(int, right)), "only static right")
        else:
            assert spots[n][2].startswith("class not known")
    differing = [n for n in range(len(pictures)) if first[n].argmax() != second[n].argmax()]
    buttons = [button for button in app.button if button.key.startswith("differing ")]
    assert {button.key for button in buttons} == {f"differing {pictures[n].id}" for n in differing}
    last = next(picture for picture in reversed(pictures) if f"differing {picture.id}" in {b.key for b in buttons})
    app.button(key=f"differing {last.id}").click().run()
    assert not app.exception and app.query_params["image"] == last.id
    assert f"#### {last.title}" in texts(app.markdown)


def test_costs_are_those_of_each(weights: Path) -> None:
    app = open_app("compare")
    for key, field in (("multiply-adds", "madds"), ("parameters", "params")):
        bars = shown(app, key).data
        totals = sum(numbers(bar.x) for bar in bars)
        wanted = [getattr(engine.call(name, count, (32, 32, 3)), field) for name in (MODEL, STATIC)]
        assert totals / totals[1] == pytest.approx(np.array(wanted) / wanted[1])
        assert f"**{wanted[0] / wanted[1]:.2f} times** the {key}" in texts(app.markdown)


def test_times_are_measured_and_kept_for_all_tabs(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_costs, "SECONDS", 0)
    app = open_app("compare")
    # One picture is so quick that it is not asked for.
    first = [numbers(box.x).tolist() for box in shown(app, "times").data]
    assert [len(side) for side in first] == [5, 5] and min(map(min, first)) > 0
    assert app.button(key="time").label == "Measure again"
    assert "for one picture" in texts(app.markdown)
    assert [numbers(box.x).tolist() for box in shown(open_app("compare"), "times").data] == first
    app.button(key="time").click().run()
    assert [numbers(box.x).tolist() for box in shown(app, "times").data] != first
    # More of them wait for a click.
    monkeypatch.setattr(compare_costs, "QUICK", 0)
    app.button_group(key="batch").set_value("4").run()
    assert app.query_params["batch"] == "4" and figure(app, "times") is None
    assert "Not measured yet" in texts(app.markdown) and app.button(key="time").label == "Measure"
    app.button(key="time").click().run()
    assert not app.exception and shown(app, "times")
    assert "for 4 pictures at once" in texts(app.markdown)


def test_models_of_other_classes_sizes_and_channels(weights: Path) -> None:
    app = open_app("compare", against="condconv_small_fashion_mnist")
    assert not app.exception and not app.error
    assert "know different classes, 10 and 10, of which 0 have the same name" in texts(app.info)
    assert figure(app, "classes-compared") is None
    fitted = pixels(28, 1)[:1]
    wanted = engine.run("condconv_small_fashion_mnist", fitted).probabilities[0]
    bars = shown(app, "classes-2").data[0]
    got = dict(zip(bars.y, numbers(bars.x), strict=True))
    assert got == pytest.approx({name: wanted[FASHION.index(name)] for name in got}, abs=2e-6)
    assert numbers(shown(app, "routing-2").data[0].z).shape == (3, EXPERTS)
    assert shown(app, "times") and shown(app, "parameters")
    assert "CIFAR-10 photos **" in texts(app.markdown) and "knows none" in texts(app.markdown)


def test_the_same_classes_in_another_order(weights: Path, tmp_path: Path) -> None:
    path = save_untrained(tmp_path, "backwards", labels=CIFAR10[::-1], seed=3)
    app = open_app("compare", against=str(path))
    assert not app.exception and not app.error
    wanted = engine.run(str(path), pixels()).probabilities[0][::-1]
    second = shown(app, "classes-compared").data[1]
    got = dict(zip(second.y, numbers(second.x), strict=True))
    assert got == pytest.approx({name: wanted[CIFAR10.index(name)] for name in got}, abs=2e-6)


def test_what_nobody_knows_is_not_scored(weights: Path) -> None:
    entries = tuple(store.Entry(store.add_picture(noise(seed), "a.png"), "a.png") for seed in range(3))
    app = open_app("compare", tray=store.save_tray(store.Tray(entries, samples=False)))
    assert not app.exception and "nobody can say which is right" in texts(app.markdown)


def test_two_static_networks(weights: Path, tmp_path: Path) -> None:
    path = save_untrained(tmp_path, "other", experts=None, seed=2)
    app = open_app("compare", model=STATIC, against=str(path))
    assert not app.exception and "Both networks are static" in texts(app.info)
    assert shown(app, "classes-compared").data[1].name == "other"
    app.button_group(key="compare").set_value("pictures").run()
    assert not app.exception and "This network is static" in texts(app.info) and shown(app, "classes-compared")


def test_two_pictures(weights: Path) -> None:
    app = open_app("compare", compare="pictures", other="truck")
    assert not app.exception and not app.error
    ids = [picture.id for picture in samples("cifar10")]
    answer = engine.run(MODEL, pixels())
    truck = ids.index("truck")
    tables = [np.stack([routing.weights[n] for routing in answer.routing]) for n in (0, truck)]
    for number, table in enumerate(tables, 1):
        np.testing.assert_allclose(numbers(shown(app, f"routing-{number}").data[0].z), table, atol=1e-6)
    np.testing.assert_allclose(numbers(shown(app, "difference").data[0].z), tables[0] - tables[1], atol=1e-6)
    bars = shown(app, "distance").data[0]
    np.testing.assert_allclose(numbers(bars.y), np.abs(tables[0] - tables[1]).mean(axis=1), atol=1e-6)
    assert figure(app, "multiply-adds") is None and figure(app, "times") is None
    app.button_group(key="other").set_value("frog").run()
    assert app.query_params["other"] == "frog" and "Frog, drawn" in texts(app.markdown)
    # Kernels shows the same two, and the way back still knows.
    app = go_to(app, "kernels")
    assert app.selectbox(key="other").value == "frog"
    app = go_to(app, "compare")
    assert app.query_params["other"] == "frog" and app.query_params["compare"] == "pictures"
    # A picture is not compared with itself.
    app.button_group(key="image").set_value("frog").run()
    assert not app.exception and app.query_params["other"] != "frog"


def test_one_picture_has_no_second(weights: Path) -> None:
    entry = store.Entry(store.add_picture(noise(0), "a.png"), "a.png")
    tray = store.save_tray(store.Tray((entry,), samples=False))
    app = open_app("compare", compare="pictures", tray=tray)
    assert not app.exception and "There is but one picture" in texts(app.info)
    app = open_app("compare", tray=tray)
    assert not app.exception and not app.error and shown(app, "classes-compared")


def test_a_wrong_address_does_no_harm(weights: Path) -> None:
    wrong = {"against": "x", "compare": "x", "other": "x", "batch": "9", "layer": "x", "expert": "99"}
    for given in (wrong, wrong | {"compare": "pictures"}, wrong | {"against": MODEL}):
        app = open_app("compare", **given)
        assert not app.exception and not app.error
    assert app.query_params["against"] == STATIC and app.query_params["batch"] == "1"


def test_names_say_what_differs() -> None:
    assert apart("CIFAR-10 photos · 8 experts", "CIFAR-10 photos · static") == ("8 experts", "static")
    assert apart("birds · 8 experts", "plants · 8 experts") == ("birds", "plants")
    assert apart("birds · 8 experts", "birds · 8 experts") == ("birds · 8 experts (1)", "birds · 8 experts (2)")
    assert apart("a · b", "a · b · c") == ("a · b", "c")


def test_the_likest_model_comes_first(weights: Path, tmp_path: Path) -> None:
    card, static, garments = map(describe, (MODEL, STATIC, "condconv_small_fashion_mnist"))
    more = describe(str(save_untrained(tmp_path, "more", experts=8)))
    assert twin(card, [card, garments, static]) == STATIC
    assert twin(static, [static, garments, card, more]) == MODEL
    assert twin(card, [garments, more, card]) == more.name
    assert twin(garments, [garments, card, static]) == STATIC
    assert twin(card, [card]) is None
