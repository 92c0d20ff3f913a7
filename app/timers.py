"""Timers of the page before (`st.fragment(run_every=…)`) that ring while another page is being drawn."""

from streamlit.runtime.scriptrunner import get_script_run_ctx


def silence() -> None:
    """Forget what a timer of another page asks for. At the end of each page.

    The browser stops such a timer when it hears of the new page. If one rings before that, Streamlit (1.67) puts its
    page, empty by then, over the new one, and the tab stays blank. Of what is used here some is Streamlit's own: where
    that is gone, nothing happens.
    """
    try:
        from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType

        context = get_script_run_ctx()
        requests = context and context.script_requests
        if not context or not requests:
            return
        with requests._lock:
            waits, wanted = requests._state == ScriptRequestType.RERUN, requests._rerun_data
            if waits and wanted.fragment_id_queue and wanted.page_script_hash != context.page_script_hash:
                requests._state = ScriptRequestType.CONTINUE
    except (ImportError, AttributeError):
        return
