"""Usage: what the routers do over many pictures."""

from collections.abc import Callable

import streamlit as st

from condconv_mlx.app import address, engine, store, survey, tray
from condconv_mlx.app.frame import View, is_static, open_page
from condconv_mlx.app.parts import escape, rounded
from condconv_mlx.app.store import Entry, Tray
from condconv_mlx.app.survey import Survey
from condconv_mlx.app.usage_sections import SECTIONS
from condconv_mlx.data import DataError, list_datasets

PAPER = """
Section 5 of the paper looks at the routing weights of all validation images. Its figures show that those of early
layers look alike for all classes and grow class-specific with depth (*Classes by depth*), that in the last layer they
are bimodal, near 0 or near 1 (*Weights*), and that some experts are called on for a few classes only (*Experts*). With
some hundreds of test images of a data set you can look for the same in your own network.
"""

TRAY, DATA = "the tray", "a data set"
# Of a data set's images, at most and at first.
MOST = 10_000
USUALLY = 500
# Of the pictures that were chosen.
SHOWN = 12


def show() -> None:
    """The page."""
    view = open_page(
        "Usage",
        "What the experts are for, over many pictures: look for what sets the deep layers apart from the early ones.",
        PAPER,
    )
    found = choose_source(view)
    if found is None:
        return
    if len(found.names) < 2:
        st.info("One picture has nothing to be compared with. **Add** more above, a data set's for instance.")
        return
    sections(view, found)


def choose_source(view: View) -> Survey | None:
    """The pictures to look at. None where there is nothing to see yet, which the page then says."""
    address.remember("of", [TRAY, DATA], TRAY)
    of = st.segmented_control("Pictures of", [TRAY, DATA], required=True, key="of", label_visibility="collapsed")
    address.put(of=None if of == TRAY else of)
    if of == DATA:
        if is_static(view.answer_one()):
            return None
        return of_data(view)
    answer = view.answer()
    if is_static(answer):
        return None
    pictures = view.pictures
    return survey.of_answer(
        view.card,
        answer,
        [picture.id for picture in pictures],
        [picture.title for picture in pictures],
        [picture.truth for picture in pictures],
        lambda n: pictures[n].thumbnail,
    )


def of_data(view: View) -> Survey | None:
    """A survey of a data set's test images, kept for this tab. Nothing is loaded before it is asked for."""
    card = view.card
    known = list_datasets()
    spec = address.value("data") or (card.dataset if card.dataset in known else known[0])
    count = address.value("count") or ""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        folder = spec.startswith("folder:")
        options = [*known, tray.FOLDER]
        index = options.index(tray.FOLDER if folder else spec) if folder or spec in known else 0
        name = st.selectbox("Test images of", options, index)
        path = ""
        if name == tray.FOLDER:
            own = spec.removeprefix("folder:") if folder else ""
            path = st.text_input("Path of the folder or zip", own, placeholder="~/Pictures/birds")
        fits = count.isdecimal() and 2 <= int(count) <= MOST
        number = st.number_input("How many", 2, MOST, int(count) if fits else USUALLY)
        asked = st.button("Look", type="primary", key="survey")
    if asked:
        spec, count = (f"folder:{path.strip()}" if name == tray.FOLDER else name), str(number)
        address.put(data=spec, count=count)
    key = (card.name, engine.file_of(card.name).stat().st_mtime_ns, spec, count)
    if st.session_state.get("surveyed", (None,))[0] != key:
        if not asked:
            st.caption("As many of each class as there are. A known data set is downloaded when it is first used.")
            return None
        try:
            st.session_state["surveyed"] = key, run(view, spec, int(number))
        except (DataError, OSError) as error:
            st.error(escape(str(error)))
            return None
    return st.session_state["surveyed"][1]


def run(view: View, spec: str, count: int) -> Survey:
    """The network over test images, with a bar."""
    with st.spinner("Loading the data set …"):
        data = tray.dataset(spec)
    chosen = tray.spread(data.test_labels, min(count, survey.most(view.card, data)))
    bar = st.progress(0.0)
    found = survey.of_dataset(
        view.card, data, chosen, lambda share: bar.progress(share, f"{rounded(share)} of {len(chosen)} images")
    )
    bar.empty()
    return found


@st.fragment
def sections(view: View, found: Survey) -> None:
    """One look at the pictures at a time."""
    names = {key: title for key, (title, _) in SECTIONS.items()}
    section = address.remember("section", list(names), next(iter(names)))
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.segmented_control(
            "Look at",
            list(names),
            format_func=names.__getitem__,
            required=True,
            key="section",
            label_visibility="collapsed",
        )
        truth = choose_truth(found)
    slice_ = SECTIONS[section][1](view, found, truth)
    if slice_ is not None:
        offer(view, found, slice_)
    if address.value("whole") is not None:
        if st.button("Back to all pictures", on_click=back, icon=":material/undo:", key="back"):
            st.rerun()


def choose_truth(found: Survey) -> bool:
    """Whether classes are the true ones, or what the network takes the pictures for."""
    count = f"{len(found.names):,} pictures"
    if found.truths is None:
        st.caption(f"{count}, by the class that the network takes them for")
        return False
    by = address.remember("by", ["true", "predicted"], "true")
    st.selectbox(
        f"{count}, by their",
        ["true", "predicted"],
        format_func=lambda by: f"{by} class",
        key="by",
        width=200,
    )
    return by == "true"


def offer(view: View, found: Survey, chosen: list[int]) -> None:
    """Make some of the pictures the tray, which all pages look at."""
    if not chosen:
        st.caption("Draw round some of the points to have those pictures alone on all pages.")
        return
    some = chosen[: tray.MOST]
    more = "" if len(some) == len(chosen) else f", the first {len(some)} of {len(chosen)}"
    label = f"Look at {'this picture' if len(some) == 1 else f'these {len(some)} pictures'} on all pages{more}"
    if address.value("section") == "map":
        with st.container(horizontal=True, key="chosen"):
            for n in some[:SHOWN]:
                st.image(found.thumbnail(n), width=48, alt=found.names[n])
    if st.button(label, on_click=take(view, found, some), type="primary", icon=":material/filter_alt:", key="take"):
        # The strip of pictures is not a part of this fragment.
        st.rerun()


def take(view: View, found: Survey, chosen: list[int]) -> Callable[[], None]:
    """Put those pictures alone into the tray, and remember what was there."""

    def taken() -> None:
        if address.value("of") == DATA:
            data = tray.dataset(address.value("data") or "")
            entries = [tray.entry_of(data, int(found.ids[n])) for n in chosen]
        else:
            entries = [entry(view, found.ids[n]) for n in chosen]
        if address.value("whole") is None:
            address.put(whole=address.value("tray") or "")
        tray.change(Tray(tuple(dict.fromkeys(entries)), samples=False))
        tray.choose(entries[0].id)

    return taken


def entry(view: View, id: str) -> Entry:
    """A picture of the tray as an entry of its own, also one of the samples."""
    mine = {entry.id: entry for entry in tray.current().entries}
    if id in mine:
        return mine[id]
    picture = next(picture for picture in view.pictures if picture.id == id)
    return Entry(store.add_picture(picture.path.read_bytes(), picture.title), picture.title, picture.truth)


def back() -> None:
    """The tray before the first slice."""
    address.put(tray=address.value("whole") or None, whole=None)
