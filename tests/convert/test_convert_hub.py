"""Weights from a loopback server that answers as the Hugging Face hub does."""

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import Server, safetensors

from condconv_mlx.convert import hub
from condconv_mlx.convert.hub import HUB_MODELS, HubError, cached, fetch, hub_model, preprocessing

NAME = "tf_efficientnet_cc_b0_4e"
REPO = f"timm/{NAME}.in1k"
WEIGHTS, CONFIG = f"{REPO}/model.safetensors", f"{REPO}/config.json"
CONTENT = safetensors({"conv_stem.weight": np.random.default_rng(0).standard_normal((300, 1000))})
SETTINGS = {
    "architecture": NAME,
    "num_classes": 1000,
    "pretrained_cfg": {
        "tag": "in1k",
        "input_size": [3, 192, 192],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    },
}


@pytest.fixture
def server(hub_running: Server) -> Server:
    hub_running.files = {WEIGHTS: CONTENT, CONFIG: json.dumps(SETTINGS).encode()}
    return hub_running


@pytest.fixture
def nowhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address where nothing answers, as all do when there is no network."""
    closed = Server()
    closed.server_close()
    monkeypatch.setenv("HF_ENDPOINT", closed.url)
    return closed.url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, where the library takes 10 MB at a time, and no waiting between attempts."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("name", [NAME, f"{NAME}.in1k"])
def test_a_download(name: str, server: Server, cache: Path) -> None:
    assert cached(name) is None
    path = fetch(name)
    assert path.name == "model.safetensors" and path.read_bytes() == CONTENT
    assert cache in path.parents
    assert json.loads((path.parent / "config.json").read_text()) == SETTINGS
    assert {(method, name) for method, name, _ in server.requests} == {
        (method, name) for method in ("HEAD", "GET") for name in (WEIGHTS, CONFIG)
    }


def test_what_came_is_weights(server: Server) -> None:
    import mlx.core as mx

    loaded: Any = mx.load(str(fetch(NAME)))
    assert loaded["conv_stem.weight"].shape == (300, 1000)


def test_a_second_call_needs_no_network(server: Server) -> None:
    first = fetch(NAME)
    server.shutdown()
    server.server_close()
    server.requests.clear()
    assert fetch(NAME) == cached(NAME) == first
    assert not server.requests


def test_weights_may_come_without_a_description(server: Server) -> None:
    del server.files[CONFIG]
    path = fetch(NAME)
    assert path.read_bytes() == CONTENT
    assert preprocessing(NAME, path.parent) == preprocessing(NAME)


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_breaks_off_is_taken_up_again(server: Server) -> None:
    server.cuts = [500_000, 500_000]
    assert fetch(NAME).read_bytes() == CONTENT
    wanted = [range for method, name, range in server.requests if (method, name) == ("GET", WEIGHTS)]
    assert wanted == [None, "bytes=500000-", "bytes=1000000-"]


@pytest.mark.usefixtures("impatient")
def test_nothing_half_written_passes_for_weights(server: Server, cache: Path) -> None:
    server.cuts = [100_000] + [0] * 20
    with pytest.raises(HubError, match="could not be downloaded"):
        fetch(NAME)
    assert cached(NAME) is None and not list(cache.rglob("model.safetensors"))
    server.cuts = []
    assert fetch(NAME).read_bytes() == CONTENT


def test_offline_says_at_once_what_to_do(nowhere: str) -> None:
    with pytest.raises(HubError) as caught:
        fetch(NAME)
    message = str(caught.value)
    assert message.startswith(f"{NAME}.in1k (53 MB) is not here and could not be downloaded from {nowhere}")
    assert "(Connection refused)" in message
    assert f"https://huggingface.co/{REPO}/resolve/main/model.safetensors" in message
    assert 'load_timm("path/to/model.safetensors")' in message
    assert "condconv-mlx convert path/to/model.safetensors out.safetensors" in message
    assert "\n" not in message


def test_offline_by_choice(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"\(HF_HUB_OFFLINE is set\)"):
        fetch(NAME)
    assert not server.requests


@pytest.mark.parametrize(("missing", "answer"), [([WEIGHTS], "404 Not Found"), ([WEIGHTS, CONFIG], "401 Unauthorized")])
def test_what_the_hub_does_not_have(missing: list[str], answer: str, server: Server) -> None:
    # Of a repository that does not exist, the hub says that it might be private.
    for name in missing:
        del server.files[name]
    with pytest.raises(HubError, match=rf"\(it answered {answer}\)"):
        fetch(NAME)


def test_a_hub_in_trouble(server: Server) -> None:
    server.status = 503
    with pytest.raises(HubError, match=r"\(it answered 503 Service Unavailable\)"):
        fetch(NAME)


def test_a_mirror_that_is_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    with pytest.raises(HubError, match="could not be downloaded from nonsense"):
        fetch(NAME)


def test_a_cache_that_cannot_be_written(server: Server, cache: Path) -> None:
    cache.parent.joinpath("hub").write_text("")
    with pytest.raises(HubError, match=r"\((Not a directory|File exists): "):
        fetch(NAME)


@pytest.mark.parametrize("name", ["tf_efficientnet_cc_b0_4", "tf_efficientnet_cc_b1_4e.in1k"])
def test_an_unknown_name_lists_near_ones(name: str, nowhere: str) -> None:
    for ask in (fetch, cached, preprocessing, hub_model):
        with pytest.raises(ValueError, match=f'got "{name}"') as caught:
            ask(name)
        assert "Did you mean tf_efficientnet_cc_b" in str(caught.value)
    with pytest.raises(ValueError, match=r'must be one of tf_efficientnet_cc_b0_4e, .*, got "cat"\.$'):
        fetch("cat")


def test_progress_is_shown_in_a_terminal_only(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch(NAME)
    shown = capsys.readouterr()
    assert shown.out == "" and "model.safetensors" in shown.err and "config.json" not in shown.err


@pytest.mark.parametrize(("terminal", "progress"), [(True, False), (False, True)])
def test_no_progress_where_none_is_wanted(
    terminal: bool, progress: bool, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    fetch(NAME, progress=progress)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("impatient")
def test_progress_may_be_reported(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its handler writes to the stream of the test in which the library was first imported, which is closed by now.
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [])
    server.cuts = [500_000]
    told: list[tuple[int, int]] = []
    fetch(NAME, report=lambda done, total: told.append((done, total)))
    done = [bytes for bytes, _ in told]
    assert done == sorted(done) and len(set(done)) > 5
    assert told[-1] == (len(CONTENT), len(CONTENT)) and {total for _, total in told} == {len(CONTENT)}
    assert capsys.readouterr() == ("", "")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, because the library reads its variables when it is imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", f"from condconv_mlx.convert.hub import cached, fetch\n{code}"],
        capture_output=True,
        text=True,
        env={**kept, "NO_PROXY": "127.0.0.1,localhost", **environment},
        timeout=60,
    )


def test_the_variables_of_the_hub_are_heeded(server: Server, tmp_path: Path) -> None:
    mine = {"HF_HOME": str(tmp_path / "mine"), "HF_ENDPOINT": server.url}
    done = run(f"print(fetch('{NAME}'))", **mine)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    path = Path(done.stdout.strip())
    assert tmp_path / "mine" in path.parents and path.read_bytes() == CONTENT
    server.requests.clear()
    assert run(f"print(fetch('{NAME}'))", HF_HOME=mine["HF_HOME"], HF_HUB_OFFLINE="1").stdout == done.stdout
    other = run(f"fetch('{NAME}')", HF_HOME=str(tmp_path / "other"), HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    assert "(HF_HUB_OFFLINE is set)" in other.stderr.splitlines()[-1]
    assert not server.requests


def test_a_file_that_does_not_fit(server: Server, tmp_path: Path) -> None:
    # A limit on the size of files stands in for a full disk.
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
fetch('{NAME}', progress=False)"""
    done = run(code, HF_HOME=str(tmp_path / "mine"), HF_ENDPOINT=server.url)
    assert "(File too large)" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.rglob("model.safetensors"))


def test_a_full_disk_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(model: object, progress: bool) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub, "_download", full)
    with pytest.raises(HubError, match="No space left on device; HF_HOME can name a folder where there is room"):
        fetch(NAME)


def test_importing_is_cheap() -> None:
    done = run("import sys; print([name for name in sys.modules if 'huggingface' in name])")
    assert done.stdout == "[]\n", done.stderr


def test_the_table() -> None:
    assert hub_model(f"{NAME}.in1k") is HUB_MODELS[NAME]
    assert all(model.repo == f"timm/{name}.in1k" for name, model in HUB_MODELS.items())
    for model in HUB_MODELS.values():
        assert model.megabytes == pytest.approx(4e-6 * model.parameters, abs=0.6)


def test_preprocessing_of_a_name() -> None:
    assert preprocessing("tf_efficientnet_cc_b1_8e") == {
        "size": 240,
        "channels": 3,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop": 0.882,
        "interpolation": "bicubic",
    }
    assert preprocessing("tf_efficientnet_b0")["std"] == [0.229, 0.224, 0.225]


def test_the_description_beside_the_weights_wins(server: Server) -> None:
    assert preprocessing(NAME, fetch(NAME).parent) == {
        "size": 192,
        "channels": 3,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "crop": 0.9,
        "interpolation": "bilinear",
    }


@pytest.mark.parametrize("config", [{"architecture": "vit"}, {"architecture": NAME, "pretrained_cfg": {}}, {}])
def test_a_description_of_something_else_does_not_count(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert preprocessing(NAME, tmp_path) == preprocessing(NAME)


@pytest.mark.parametrize(
    "text",
    [
        '{"archi',
        "[]",
        f'{{"architecture": "{NAME}"}}',
        f'{{"architecture": "{NAME}", "pretrained_cfg": {{"input_size": 224}}}}',
        f'{{"architecture": "{NAME}", "pretrained_cfg": {{"mean": "none"}}}}',
    ],
)
def test_a_damaged_description_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(HubError, match=r"config\.json is damaged: remove it"):
        preprocessing(NAME, tmp_path)
