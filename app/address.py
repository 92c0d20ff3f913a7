"""What a tab shows, in its own session and in its address, so that a reload or a link shows the same.

Streamlit forgets a widget that is not drawn, and clears the address when another page is opened; neither happens here.
"""

from collections.abc import Sequence

import streamlit as st


def value(key: str) -> str | None:
    """What this tab has chosen for `key`, or came with in its address."""
    return _values().get(key)


def put(**values: str | None) -> None:
    """Choose, and write it into the address. None takes a key out."""
    kept = _values()
    for key, chosen in values.items():
        if chosen is None:
            kept.pop(key, None)
            st.query_params.pop(key, None)
        else:
            kept[key] = chosen
            if st.query_params.get(key) != chosen:
                st.query_params[key] = chosen


def drop(*keys: str) -> None:
    """Choose these anew. From a callback, or before the widgets of these keys are drawn."""
    for key in keys:
        st.session_state.pop(key, None)
        put(**{key: None})


def remember(key: str, options: Sequence[str], default: str) -> str:
    """Give the widget `key` its value: the one it has, else what this tab has chosen, else the default."""
    had: list[str | None] = [st.session_state.get(key), value(key)]
    chosen = next((one for one in had if one is not None and one in options), default)
    st.session_state[key] = chosen
    put(**{key: chosen})
    return chosen


def renew() -> None:
    """Write the address again, after a change of page has cleared it."""
    put(**_values())


def _values() -> dict[str, str]:
    return st.session_state.setdefault("address", dict(st.query_params))
