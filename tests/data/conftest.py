"""A web server on the loopback address, and an address where there is none."""

import threading
from collections.abc import Iterator

import pytest
from data_server import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address where nothing answers, as all do when there is no network."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    closed = Server()
    closed.server_close()
    return closed.url
