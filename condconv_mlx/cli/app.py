"""`condconv-mlx app`: the Streamlit app, on this machine alone."""

import argparse
import http.client
import os
import socket
import sys
import threading
import time
import tomllib
import webbrowser
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
FIRST_PORT = 8501
EXAMPLE = """\
examples:
  condconv-mlx app
  condconv-mlx app --port 9000 --no-browser
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "app",
        help="open the app in the browser",
        description="Open the app: upload images, and see which experts the network mixes for each.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=_port, help=f"default: {FIRST_PORT}, or the next one that is free")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve the app on the loopback address until Ctrl-C."""
    port = choose_port(args.port)
    folder = app_folder()
    threading.Thread(target=_announce, args=(port, not args.no_browser), daemon=True).start()

    from streamlit.web import cli as streamlit

    # An older Streamlit may lack an option of ours, and refuses flags that it does not know.
    known = {name for parameter in streamlit.main.commands["run"].params for name in parameter.opts}
    flags = [flag for flag in streamlit_flags(folder, port) if flag.partition("=")[0] in known]
    streamlit.main(["run", str(folder / "main.py"), *flags], prog_name="streamlit", standalone_mode=False)
    return 0


def app_folder() -> Path:
    """Where the app lies: inside the installed package, or in a checkout."""
    spec = find_spec("condconv_mlx.app")
    for place in (spec and spec.submodule_search_locations) or []:
        if (Path(place) / "main.py").is_file():
            return Path(place)
    raise OSError("the app is not installed with this package: install condconv-mlx again")


def choose_port(asked: int | None) -> int:
    """The port asked for, or the first free one from 8501 on; `OSError` if the one asked for is taken."""
    if asked is not None:
        if problem := _why_not(asked):
            raise OSError(f"port {asked} cannot be used ({problem}): choose another, or leave --port out")
        return asked
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        if not _why_not(port):
            return port
    raise OSError(f"no port from {FIRST_PORT} to {FIRST_PORT + 99} is free: name one with --port")


def streamlit_flags(folder: Path, port: int) -> list[str]:
    """Streamlit's command line: the options of the app's config.toml, wherever it is started, then those we fix."""
    config = folder / ".streamlit" / "config.toml"
    options = tomllib.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    fixed = {
        # Headless: Streamlit asks for no e-mail address and opens no browser; we open it when the app answers.
        "server": {
            "address": HOST,
            "port": port,
            "headless": True,
            "fileWatcherType": "none",
            "maxUploadSize": 64,
        },
        "browser": {"gatherUsageStats": False},
        "logger": {"level": "warning", "hideWelcomeMessage": True},
    }
    return [*_flags("--", {"client": {"toolbarMode": "viewer"}}), *_flags("--", options), *_flags("--", fixed)]


def _flags(prefix: str, options: dict[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        if isinstance(value, dict):
            yield from _flags(f"{prefix}{key}.", value)
        elif isinstance(value, list):
            # Tables in a list (theme.fontFaces) have no form as flags.
            yield from (f"{prefix}{key}={item}" for item in value if not isinstance(item, dict))
        else:
            yield f"{prefix}{key}={str(value).lower() if isinstance(value, bool) else value}"


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, got {text!r}")
    return int(text)


def _why_not(port: int) -> str | None:
    """Why the port cannot be served on, or None."""
    with socket.socket() as probe:
        # macOS would let us bind beside a server that listens on every address.
        probe.settimeout(1)
        if probe.connect_ex((HOST, port)) == 0:
            return "something answers there already"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror
    return None


def _announce(port: int, browser: bool) -> None:
    """Print the address, and open it, once the app answers there."""
    while not _answers(port):
        time.sleep(0.1)
    address = f"http://{HOST}:{port}"
    print(f"The app is at {address} (Ctrl-C ends it)", flush=True)
    # Without a display, Python would take a browser that runs in the terminal.
    if browser and (sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(address)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
