"""The app. `condconv-mlx app` starts it."""

import logging

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from condconv_mlx import _backend
from condconv_mlx.app import address, timers
from condconv_mlx.app.parts import ICON, escape
from condconv_mlx.cpu import tune_process


def pages() -> list[StreamlitPage]:
    """The pages in their order. Each is a file in views/ with a function `show`."""
    from condconv_mlx.app.views import compare, device, kernels, route, train, usage, what_if

    return [
        st.Page(route.show, title="Route", default=True),
        st.Page(kernels.show, title="Kernels", url_path="kernels"),
        st.Page(what_if.show, title="What if", url_path="what-if"),
        st.Page(usage.show, title="Usage", url_path="usage"),
        st.Page(train.show, title="Train", url_path="train"),
        st.Page(compare.show, title="Compare", url_path="compare"),
        st.Page(device.show, title="Device", url_path="device"),
    ]


st.set_page_config(page_title="CondConv", page_icon=ICON, layout="wide")
try:
    # The pages import MLX, which must not be there before.
    tune_process()
    _backend.check()
    all_pages = pages()
    page = st.navigation(all_pages, position="top")
    st.session_state["pages"] = {one.url_path: one for one in all_pages}
    address.renew()
    try:
        page.run()
    finally:
        timers.silence()
except _backend.BackendError as error:
    st.error(escape(f"{error}"))
except Exception as error:
    from condconv_mlx.checkpoint import CheckpointError

    if isinstance(error, CheckpointError):
        st.error(escape(f"{error}"))
    else:
        logging.getLogger("condconv_mlx.app").exception("the page failed")
        st.error(
            "Something went wrong here that should not have. Reload the page to go on. If it comes back, please report "
            f"what you did, and this line: **{type(error).__name__}: {escape(str(error))}**"
        )
