"""The app. `condconv-mlx app` starts it."""

import logging

import streamlit as st

from condconv_mlx._backend import BackendError
from condconv_mlx.app.pages import explore
from condconv_mlx.app.parts import ICON, escape

st.set_page_config(page_title="CondConv", page_icon=ICON, layout="wide")
# An address differs from its file: for a first visit to /explore, Streamlit would run pages/explore.py by itself.
page = st.navigation([st.Page(explore.show, title="Explore", url_path="look", default=True)], position="hidden")
try:
    page.run()
except BackendError as error:
    st.error(escape(f"{error}"))
except Exception as error:
    logging.getLogger("condconv_mlx.app").exception("the page failed")
    st.error(
        "Something went wrong here that should not have. Reload the page to go on. If it comes back, please report "
        f"what you did, and this line: **{type(error).__name__}: {escape(str(error))}**"
    )
