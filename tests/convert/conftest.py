"""A hub on the loopback address, and an empty cache for what comes from it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache. The library reads the variables of its environment only once."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    # Proxies are read when a session opens.
    close_session()
    return tmp_path / "hub"


@pytest.fixture
def hub_running(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A hub that has nothing yet: give it `files`."""
    with Server() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
