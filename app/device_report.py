"""What `condconv-mlx doctor` knows, on a page: what is here, what is missing, and whether the functions are right."""

import html
from typing import Any

import streamlit as st

from condconv_mlx import doctor
from condconv_mlx.app import engine
from condconv_mlx.app.parts import escape, sentence, table
from condconv_mlx.verify import Check, checks

STYLE = """<style>
.facts {display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; font-size: .9rem}
.facts, .facts * {margin: 0 !important; padding: 0 !important}
.facts dt {opacity: .65; font-weight: 400}
.facts dd {overflow-wrap: anywhere}
@media (max-width: 640px) {.facts {grid-template-columns: 1fr; gap: 0} .facts dd {margin-bottom: .5rem !important}}
</style>"""


def show_report() -> None:
    """The report, and two buttons: to look again, and to check the functions."""
    with st.container(horizontal=True, vertical_alignment="center", key="title report"):
        st.markdown("#### This machine", width="stretch")
        st.button("Look again", on_click=examined.clear, icon=":material/refresh:", type="tertiary", key="look again")
    with st.spinner("Looking what is here, and how fast it computes …", show_time=True):
        report = examined()
    if report["problems"]:
        st.error("  \n".join(escape(sentence(problem)) for problem in report["problems"]))
    else:
        st.success("Everything that condconv-mlx needs is here.", icon=":material/check_circle:")
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in doctor.rows(report))
    st.html(f"{STYLE}<dl class=facts>{rows}</dl>")
    if report["advice"]:
        st.markdown("**What would help**  \n" + "  \n".join(escape(sentence(advice)) for advice in report["advice"]))
    show_checks()


@st.cache_data(show_spinner=False)
def examined() -> dict[str, Any]:
    """The report, for all tabs until one looks again. A few seconds, of which MLX has a twentieth at a time."""
    return doctor.examine(engine.turn)


def show_checks() -> None:
    """Every function and gradient against a plain loop, when it is asked for."""
    asked = st.button(
        "Check functions and gradients",
        icon=":material/rule:",
        key="check",
        help="Computes all of them on this device, and compares with plain loops over the images. Some seconds.",
    )
    bar = st.empty()
    if asked:
        st.session_state.pop("checks", None)
        to_do, done = engine.turn(checks), []
        for check in to_do:
            done.append(engine.turn(check))
            bar.progress(len(done) / len(to_do), escape(f"{done[-1].name}, {done[-1].dtype}"))
        bar.empty()
        st.session_state["checks"] = done
    if "checks" in st.session_state:
        show_found(st.session_state["checks"])


def show_found(found: list[Check]) -> None:
    """What the checks came to, and each of them on request."""
    wrong = [check for check in found if not check.passed]
    if wrong:
        st.error(
            f"{len(wrong)} of {len(found)} checks are wrong. Please report that, with what is wrong:"
            "  \n" + "  \n".join(escape(f"{check.name}, {check.dtype}: {check.worst}") for check in wrong)
        )
    else:
        st.success(f"All {len(found)} checks agree with plain loops over the images.", icon=":material/check_circle:")
    with st.expander("Each check", type="compact"):
        table(
            ("function", "numbers", "cases", "largest relative error", "allowed"),
            [
                (check.name, check.dtype, str(check.cases), f"{check.error:.1e}", f"{check.tolerance:.0e}")
                for check in found
            ],
        )
