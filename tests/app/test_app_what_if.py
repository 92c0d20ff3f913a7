"""The page What if: changes to the routing of a picture, and what follows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from app_material import CIFAR10, EXPERTS, figure, go_to, numbers, open_app, texts
from streamlit.testing.v1 import AppTest

from condconv_mlx.app import engine
from condconv_mlx.app.pictures import samples
from condconv_mlx.data import fit_image
from condconv_mlx.explain import one_hot, shuffled, silence, trace, uniform

MODEL = "condconv_small_cifar10"


def pixels(id: str | None = None) -> np.ndarray:
    """A sample as the network takes it; the first unless named."""
    picture = next(picture for picture in samples("cifar10") if id in (None, picture.id))
    return fit_image(picture.image, 32, 3)[None]


def routing(id: str | None = None) -> list[np.ndarray]:
    return [one.weights[0] for one in engine.run(MODEL, pixels(id)).routing]


def wanted(override: dict[int, np.ndarray]) -> np.ndarray:
    """The probabilities of the first sample with other weights for routers by their index."""
    names = [one.router for one in engine.run(MODEL, pixels()).routing]
    found = engine.look(MODEL, pixels(), trace, {names[i]: weights for i, weights in override.items()})
    return found.probabilities[0]


def shown(app: AppTest) -> dict[str, float]:
    """The probabilities that the page shows, of the classes that it shows, by the name of the class."""
    chart = figure(app, "what-if")
    assert chart is not None
    return {name: float(x) for name, x in zip(chart.data[0].y, numbers(chart.data[0].x), strict=True)}


def agrees(app: AppTest, probabilities: np.ndarray) -> bool:
    return all(abs(value - probabilities[CIFAR10.index(name)]) < 2e-6 for name, value in shown(app).items())


@pytest.fixture
def app(weights: Path) -> Iterator[AppTest]:
    yield open_app("what-if")


def test_opens_with_nothing_changed(app: AppTest) -> None:
    assert not app.exception and not app.error
    assert agrees(app, engine.run(MODEL, pixels()).probabilities[0])
    assert "Nothing is changed yet" in texts(app.markdown)
    assert app.button(key="undo change").disabled and app.button(key="reset changes").disabled
    assert [round(slider.value, 2) for slider in app.slider] == [round(float(w), 2) for w in routing()[0]]
    table = figure(app, "silencing 0")
    assert table is not None and numbers(table.data[0].z).shape == (3, EXPERTS)
    tried = figure(app, "alternatives")
    assert tried is not None
    rows = dict(zip(tried.layout.yaxis.ticktext, numbers(tried.data[0].x), strict=True))
    before, half = wanted({}), wanted({i: own / 2 for i, own in enumerate(routing())})
    assert len(rows) == 7
    assert rows["its own routing"] == pytest.approx(before.max(), abs=2e-6)
    # An address keeps four digits of a weight.
    assert rows["half as strong"] == pytest.approx(half[before.argmax()], abs=1e-4)


def test_a_slider_moves_the_prediction_and_is_undone(app: AppTest) -> None:
    app.selectbox(key="layer").set_value("classifier").run()
    app.slider(key="weight 2 1").set_value(0.9).run()
    given = np.full(EXPERTS, np.nan, np.float32)
    given[1] = 0.9
    assert agrees(app, wanted({2: given})) and not agrees(app, wanted({}))
    assert app.query_params["what"] == "2.w_-_0.9_-_-"
    assert app.slider(key="weight 2 1").value == 0.9
    app.slider(key="weight 2 0").set_value(0.1).run()
    app.button(key="undo change").click().run()
    assert app.query_params["what"] == "2.w_-_0.9_-_-" and agrees(app, wanted({2: given}))
    app.button(key="reset changes").click().run()
    assert "what" not in app.query_params and agrees(app, wanted({}))
    app.button(key="undo change").click().run()
    assert app.query_params["what"] == "2.w_-_0.9_-_-"


def test_experts_are_silenced_and_given_back(app: AppTest) -> None:
    app.button_group(key="silenced 0").set_value([0, 3]).run()
    assert agrees(app, wanted({0: silence(EXPERTS, 0, 3)}))
    assert app.slider(key="weight 0 3").value == 0
    app.button_group(key="silenced 0").set_value([3]).run()
    assert agrees(app, wanted({0: silence(EXPERTS, 3)}))
    table = figure(app, "silencing 0")
    assert table is not None and len(table.layout.shapes) == 1
    app.button_group(key="silenced 0").set_value([]).run()
    assert "what" not in app.query_params


def test_every_kind_of_routing(app: AppTest) -> None:
    own = routing()[0]
    for kind, override in {
        "uniform": uniform(own),
        "one": one_hot(own, int(own.argmax())),
        "shuffled": shuffled(own, 1),
        "of": routing(samples("cifar10")[1].id)[0],
        "usual": np.mean([routing(picture.id)[0] for picture in samples("cifar10")], axis=0),
        "hand": np.mean([routing(picture.id)[0] for picture in samples("cifar10")], axis=0),
        "own": np.full(EXPERTS, np.nan, np.float32),
    }.items():
        app.selectbox(key="kind 0").set_value(kind).run()
        assert not app.exception and not app.error
        assert agrees(app, wanted({0: override})), kind
        assert (kind == "own") == agrees(app, wanted({})), kind
        assert app.selectbox(key="kind 0").value == kind


def test_which_one_is_chosen_and_done_everywhere(app: AppTest) -> None:
    app.selectbox(key="kind 0").set_value("one").run()
    app.selectbox(key="detail 0").set_value("2").run()
    assert agrees(app, wanted({0: one_hot(routing()[0], 1)}))
    app.button(key="everywhere").click().run()
    assert agrees(app, wanted({i: one_hot(own, 1) for i, own in enumerate(routing())}))
    assert app.query_params["what"] == "0.one2~1.one2~2.one2"
    assert app.button(key="everywhere").disabled
    app.selectbox(key="kind 0").set_value("of").run()
    third = samples("cifar10")[2].id
    app.selectbox(key="detail 0").set_value(third).run()
    assert app.query_params["what"].startswith(f"0.of-{third}~1.one2")
    app.selectbox(key="kind 0").set_value("shuffled").run()
    app.button(key="shuffle").click().run()
    assert app.query_params["what"].startswith("0.shuffled2~")


def test_a_link_shows_the_same(weights: Path) -> None:
    app = open_app("what-if", what="1.w_0_-_1_-~0.uniform~2.nonsense", layer="blocks.2.conv1")
    given = np.array([0, np.nan, 1, np.nan], np.float32)
    assert agrees(app, wanted({1: given, 0: uniform(routing()[0])}))
    assert app.slider(key="weight 1 2").value == 1
    # Other pages and pictures do not lose it.
    app = go_to(go_to(app, "kernels"), "what-if")
    assert app.slider(key="weight 1 2").value == 1
    app.button_group(key="image").set_value("dog").run()
    assert not app.exception and app.slider(key="weight 1 2").value == 1


def test_a_few_at_a_time_is_the_same(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = figure(open_app("what-if", image="truck"), "silencing 0")
    monkeypatch.setattr(engine, "BATCH", 5)
    few = figure(open_app("what-if", image="truck"), "silencing 0")
    assert at_once is not None and few is not None
    np.testing.assert_allclose(numbers(few.data[0].z), numbers(at_once.data[0].z), atol=1e-3)


def test_a_wrong_address_does_no_harm(weights: Path) -> None:
    app = open_app("what-if", what="9.uniform~0.of-nobody~x", layer="x", expert="99")
    assert not app.exception and not app.error
    assert agrees(app, wanted({}))


def test_static_network(weights: Path) -> None:
    app = open_app("what-if", model="condconv_small_static_cifar10", what="0.uniform")
    assert "static" in texts(app.info) and not app.exception
