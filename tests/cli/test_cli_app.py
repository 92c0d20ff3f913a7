"""`condconv-mlx app`: the real process, and what it makes of ports and settings."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from condconv_mlx import cli
from condconv_mlx.cli import app


@pytest.fixture
def taken():
    """A port that something listens on."""
    with socket.socket() as server:
        server.bind((app.HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((app.HOST, 0))
        return probe.getsockname()[1]


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(app.HOST, port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_says_the_address_and_ends(ending, tmp_path):
    port = free_port()
    # A home without Streamlit's settings: the first start must ask for nothing.
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [
        sys.executable,
        "-c",
        "from condconv_mlx.cli import main; raise SystemExit(main())",
        "app",
        "--no-browser",
    ]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in first_line
        assert get(port, "/_stcore/health") == (200, "ok")
        status, page = get(port, "/")
        assert (status, "<html" in page) == (200, True)
        process.send_signal(ending)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    # Nothing of Streamlit's: no question for an e-mail address, no welcome, no warning.
    assert errors == ""
    assert out.split() in ([], ["Stopping..."])
    assert list(tmp_path.glob("*")) == []


def test_only_this_machine_can_reach_it():
    assert f"--server.address={app.HOST}" in app.streamlit_flags(app.app_folder(), 8501)
    assert app.HOST == "127.0.0.1"


def test_a_port_that_is_taken_is_refused(taken, capsys):
    assert cli.main(["app", "--port", str(taken)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"condconv-mlx: port {taken} cannot be used")


def test_the_next_free_port_is_chosen(taken, monkeypatch):
    monkeypatch.setattr(app, "FIRST_PORT", taken)
    assert app.choose_port(None) > taken


def test_a_port_just_left_can_be_used_again():
    # The side that closes first keeps the port in TIME_WAIT, as a server does that is stopped and started.
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((app.HOST, 0))
    server.listen()
    port = server.getsockname()[1]
    client = socket.create_connection((app.HOST, port))
    accepted, _ = server.accept()
    accepted.close()
    client.close()
    server.close()
    assert app.choose_port(port) == port


def test_the_apps_settings_become_flags(tmp_path):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text(
        '[client]\ntoolbarMode = "minimal"\n'
        '[theme]\nshowWidgetBorder = true\nchartCategoricalColors = ["#111", "#222"]\n'
        '[[theme.fontFaces]]\nfamily = "x"\n[theme.light]\nprimaryColor = "#4263EB"\n'
        '[server]\naddress = "0.0.0.0"\n[browser]\ngatherUsageStats = true\n'
    )
    flags = app.streamlit_flags(tmp_path, 9000)
    for flag in (
        "--client.toolbarMode=minimal",
        "--theme.showWidgetBorder=true",
        "--theme.chartCategoricalColors=#111",
        "--theme.chartCategoricalColors=#222",
        "--theme.light.primaryColor=#4263EB",
    ):
        assert flag in flags
    last = dict(flag.split("=", 1) for flag in flags)
    assert last["--server.address"] == "127.0.0.1"
    assert last["--server.port"] == "9000"
    assert last["--server.headless"] == "true"
    assert last["--browser.gatherUsageStats"] == "false"
    assert not any("fontFaces" in flag for flag in flags)


def test_without_settings_the_fixed_ones_remain(tmp_path):
    flags = app.streamlit_flags(tmp_path, 9000)
    assert "--browser.gatherUsageStats=false" in flags
    assert "--server.maxUploadSize=64" in flags


def test_streamlit_knows_every_flag_of_ours():
    from streamlit import config

    flags = app.streamlit_flags(app.app_folder(), 8501)
    assert {flag[2:].partition("=")[0] for flag in flags} <= set(config.get_config_options())


def test_a_missing_app_is_said(monkeypatch, capsys):
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    assert cli.main(["app"]) == 1
    assert "not installed" in capsys.readouterr().err


def opened(monkeypatch, browser: bool = True) -> list[str]:
    pages: list[str] = []
    monkeypatch.setattr(app, "_answers", lambda port: True)
    monkeypatch.setattr(app.webbrowser, "open", pages.append)
    app._announce(8501, browser)
    return pages


def test_the_browser_is_opened_where_there_is_a_display(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    assert opened(monkeypatch) == ["http://127.0.0.1:8501"]
    assert opened(monkeypatch, browser=False) == []
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert opened(monkeypatch) == []
    monkeypatch.setattr(sys, "platform", "darwin")
    assert opened(monkeypatch) == ["http://127.0.0.1:8501"]


def test_our_command_is_installed():
    assert shutil.which("condconv-mlx", path=os.path.dirname(sys.executable)) is not None
