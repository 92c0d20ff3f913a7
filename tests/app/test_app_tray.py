"""The tray: pictures that survive pages, reloads and other tabs, and are the tab's own."""

import os
from pathlib import Path

import numpy as np
import pytest
from app_material import go_to, noise, open_app, png, texts, upload
from streamlit.testing.v1 import AppTest

from condconv_mlx.app import store as kept
from condconv_mlx.app.pictures import samples
from condconv_mlx.app.store import Entry, Tray
from condconv_mlx.app.tray import spread


def titles(app: AppTest) -> list[str]:
    """The pictures of the strip, by the name that a screen reader says."""
    return [
        option.split("](")[0].removeprefix("![").replace("\\", "") for option in app.button_group(key="image").options
    ]


def address(app: AppTest) -> dict[str, str]:
    return {key: value if isinstance(value, str) else value[0] for key, value in app.query_params.items()}


def adding(app: AppTest) -> AppTest:
    """With "Add" open in the next run: the harness forgets it each time."""
    app.session_state["adding"] = True
    return app


SAMPLES = [sample.title for sample in samples("cifar10")]


def test_uploads_come_first_and_are_chosen(weights: Path, store: Path) -> None:
    app = upload(open_app(), ("one.png", noise(1)), ("one.png", noise(2)), ("again.png", noise(1)))
    assert not app.exception and not app.error
    assert "#### " in texts(app.markdown)
    # The same picture twice is one.
    assert sorted(titles(app)[:2]) == ["again.png", "one.png"] and titles(app)[2:] == SAMPLES
    assert len(list((store / "images").iterdir())) == 2


def test_a_link_shows_the_same_in_another_tab(weights: Path) -> None:
    app = upload(open_app(), ("one.png", noise(1)), ("two.png", noise(2)))
    app.button_group(key="image").set_value(app.button_group(key="image").options and address(app)["image"]).run()
    other = open_app("kernels", **address(app))
    assert titles(other) == titles(app)
    assert other.button_group(key="image").value == app.button_group(key="image").value
    # What one tab brings or removes does not change the other.
    upload(other, ("three.png", noise(3)))
    assert "three.png" in titles(other)
    assert "three.png" not in titles(app.run())
    assert titles(go_to(app, "kernels"))[:2] == ["one.png", "two.png"]


def test_a_link_whose_pictures_are_gone_says_so(weights: Path) -> None:
    app = open_app(tray="0123456789abcdef", image="fedcba9876543210")
    assert "not on this machine any more" in texts(app.error)
    assert titles(app) == SAMPLES
    for wrong in ("../../etc/passwd", "nonsense"):
        assert not open_app(tray=wrong).exception


def test_clearing_can_be_undone(weights: Path, store: Path) -> None:
    app = upload(open_app(), ("one.png", noise(1)))
    link = address(app)
    app = adding(app).run()
    assert "1 in the tray. Kept on this machine: 2 files" in texts(app.caption)
    adding(app).button(key="clear").click().run()
    assert titles(app) == SAMPLES and not store.exists()
    assert "any more" in texts(open_app(**link).error)
    adding(app).button(key="undo").click().run()
    assert titles(open_app(**link))[0] == "one.png"


def test_the_samples_can_be_left_out(weights: Path) -> None:
    app = upload(open_app(), ("one.png", noise(1)))
    app = adding(app).run()
    adding(app).toggle(key="samples").set_value(False).run()
    assert titles(app) == ["one.png"]
    assert titles(open_app(**address(app))) == ["one.png"]
    adding(app).button(key="empty").click().run()
    assert titles(app) == SAMPLES


def test_many_uploads(weights: Path) -> None:
    app = upload(open_app(), *[(f"{i}.png", noise(i)) for i in range(200)])
    assert not app.exception and not app.error
    assert titles(app) == [*[f"{i}.png" for i in range(200)], *SAMPLES]


def test_images_of_a_data_set(weights: Path, pictures: Path) -> None:
    app = adding(open_app())
    app.session_state["source"] = "Data set"
    app.run()
    assert "dataset path" not in {field.key for field in app.text_input}
    app.selectbox(key="dataset name").set_value("a folder or zip of mine")
    adding(app).run()
    app.text_input(key="dataset path").set_value(str(pictures))
    app.number_input(key="dataset count").set_value(3)
    next(button for button in adding(app).button if button.label == "Add").click().run()
    assert not app.exception and not app.error
    assert [title.split()[0] for title in titles(app)[:4]] == ["blue", "blue", "red", SAMPLES[0].split()[0]]
    # Its class is none that this network knows, but is said all the same.
    assert "True class: blue" in texts(app.caption)


def test_a_data_set_that_is_not_there_is_told(weights: Path, tmp_path: Path) -> None:
    app = adding(open_app())
    app.session_state["source"] = "Data set"
    app.run()
    assert "dataset path" not in {field.key for field in app.text_input}
    app.selectbox(key="dataset name").set_value("a folder or zip of mine")
    adding(app).run()
    app.text_input(key="dataset path").set_value(str(tmp_path / "nowhere"))
    next(button for button in adding(app).button if button.label == "Add").click().run()
    assert not app.exception
    assert "nowhere" in texts(app.error)


def test_as_many_of_each_class_as_can_be() -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 2])
    assert labels[spread(labels, 5)].tolist() == [0, 0, 1, 1, 2]
    assert labels[spread(labels, 6)].tolist() == [0, 0, 1, 1, 1, 2]
    assert sorted(spread(labels, 100)) == list(range(7))


def test_the_store_stays_within_bounds(store: Path) -> None:
    ids = [kept.add_picture(png(np.full((8, 8, 3), i, np.uint8)), f"{i}.png") for i in range(4)]
    for age, id in enumerate(ids):
        os.utime(kept.picture_path(id), ns=(age * 10**9, age * 10**9))
    # To see it again counts as use.
    kept.add_picture(png(np.full((8, 8, 3), 0, np.uint8)), "again.png")
    kept.trim(most=sum(kept.picture_path(id).stat().st_size for id in (ids[0], ids[3])))
    assert [kept.picture_path(id).exists() for id in ids] == [True, False, False, True]


def test_a_tray_is_named_by_what_it_holds(store: Path) -> None:
    id = kept.add_picture(noise(1), "a.png")
    tray = Tray((Entry(id, "a.png", "cat"), Entry("0" * 16, "gone.png")), samples=False)
    name = kept.save_tray(tray)
    assert kept.save_tray(tray) == name != kept.save_tray(Tray((Entry(id, "b.png"),)))
    assert kept.load_tray(name) == Tray((Entry(id, "a.png", "cat"),), samples=False)
    assert kept.save_tray(Tray()) == "" and kept.load_tray("") == Tray()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"entries": [{"id": 1}], "samples": true}'])
def test_a_damaged_tray_counts_as_none(store: Path, content: bytes) -> None:
    name = kept.save_tray(Tray((Entry("0" * 16, "a"),)))
    (store / "trays" / f"{name}.json").write_bytes(content)
    assert kept.load_tray(name) is None
