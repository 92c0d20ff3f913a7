"""Train: networks of one's own, in processes that outlive the page."""

import streamlit as st

from condconv_mlx.app.frame import heading
from condconv_mlx.app.train_form import form
from condconv_mlx.app.train_runs import EVERY, IDLE, found, section

PAPER = """
**Section 3.** Expert kernels and routers are learned together, with all else. There are two ways to train: mix the
kernels for each image, or convolve with every expert and mix what comes out, which pays for few experts only. Both give
the same.

**Section 4.** More experts help, each doubling a little less. CondConv has much capacity and over-fits, so it wants
more regularisation than a static network: stronger augmentation, mixup, dropout on the routing weights. All three are
under *Advanced*; *Experts: none* gives the static network to compare with.
"""


def show() -> None:
    """The page."""
    heading(
        "Train",
        "Train a network of your own. Look for held-out accuracy that still rises, and for experts that stay in use.",
        PAPER,
    )
    runs = found()
    if begun := st.session_state.pop("train begin", None):
        st.session_state["runs"] = [begun]
        st.session_state["new training"] = False
    if not runs:
        st.info("No training runs yet: press **Start**, and the first one shows here.")
    # As it was, whatever run comes meanwhile.
    st.session_state.setdefault("new training", not runs)
    new = st.expander("New training", icon=":material/add:", key="new training", on_change="rerun")
    if new.open:
        with new:
            form(runs)
    busy = any(run.under_way for run in runs)
    st.fragment(section, run_every=EVERY if busy else IDLE)(busy)
