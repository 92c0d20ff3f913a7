"""Downloads from a loopback server: whole, resumed, broken off, wrong, refused."""

import hashlib
import ssl
import sys
from pathlib import Path

import numpy as np
import pytest
from data_server import Server

from condconv_mlx.data import DataError
from condconv_mlx.data.download import _part_of, _ssl_context, fetch

CONTENT = np.random.default_rng(0).bytes(700_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def get(url: str, folder: Path, md5: str = MD5, progress: bool = False) -> Path:
    fetch(url, {"set.bin": md5}, folder, "The set", progress)
    return folder / "set.bin"


def test_a_download(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    assert get(server.url, tmp_path / "a/b").read_bytes() == CONTENT
    assert [file.name for file in (tmp_path / "a/b").iterdir()] == ["set.bin"]
    assert server.requests == [("set.bin", None)]
    assert server.user_agents[0] and server.user_agents[0].startswith("condconv-mlx")


def test_a_slash_at_the_end_of_the_address_does_not_matter(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    assert get(server.url + "/", tmp_path).exists()


def test_a_part_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:300_000])
    assert get(server.url, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("set.bin", "bytes=300000-")]
    assert not (tmp_path / "set.bin.part").exists()


def test_a_server_without_ranges_sends_it_all(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    server.ranges = False
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:300_000])
    assert get(server.url, tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    assert get(server.url, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"x" * 300_000, CONTENT + b"more"])
def test_a_part_of_something_else_is_dropped(stale: bytes, server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    (tmp_path / "set.bin.part").write_bytes(stale)
    assert get(server.url, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("set.bin", None)


def test_a_connection_that_breaks_off_is_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    server.cut, server.cuts = 250_000, 2
    assert get(server.url, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=250000-", "bytes=500000-"]


def test_what_came_is_kept_for_the_next_call(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    server.cut, server.cuts = 100_000, 3
    with pytest.raises(DataError, match="broke off after 300000 of 700000 bytes"):
        get(server.url, tmp_path)
    assert not (tmp_path / "set.bin").exists()
    assert (tmp_path / "set.bin.part").stat().st_size == 300_000
    assert get(server.url, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("set.bin", "bytes=300000-")


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = b"<html>Please log in</html>"
    with pytest.raises(DataError, match=f"MD5 checksum [0-9a-f]{{32}} and not {MD5}, so it was removed"):
        get(server.url, tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(server.requests) == 1


def test_a_missing_file_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mirror/set\.bin answered 404 Not Found"):
        get(server.url, tmp_path)
    assert not list(tmp_path.iterdir())


def test_offline_says_what_to_fetch_and_where_to_put_it(nowhere: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(nowhere, {"one.gz": MD5, "two.gz": MD5}, tmp_path / "cache", "The set", progress=False)
    message = str(caught.value)
    assert "The set is not here and could not be downloaded (Connection refused)" in message
    assert f"{nowhere}/one.gz" in message and f"{nowhere}/two.gz" in message
    assert f"put them in {tmp_path / 'cache'}" in message
    assert "\n" not in message


def test_only_what_is_missing_is_named(server: Server, tmp_path: Path) -> None:
    server.files["one.gz"] = CONTENT
    with pytest.raises(DataError) as caught:
        fetch(server.url, {"one.gz": MD5, "two.gz": MD5}, tmp_path, "The set", progress=False)
    assert "two.gz" in str(caught.value) and "one.gz" not in str(caught.value)
    assert (tmp_path / "one.gz").exists()


def test_a_mirror_serves_where_the_first_address_does_not(server: Server, nowhere: str, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    fetch(nowhere, {"set.bin": MD5}, tmp_path, "The set", progress=False, mirrors=[server.url])
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_mirror_goes_on_where_the_first_address_broke_off(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    server.cut, server.cuts = 100_000, 3
    fetch(server.url, {"set.bin": MD5}, tmp_path, "The set", progress=False, mirrors=[server.url + "/"])
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    assert server.requests[-1] == ("set.bin", "bytes=300000-")


def test_all_mirrors_fail(server: Server, nowhere: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"answered 404 .* fetch {nowhere}/set.bin some other way"):
        fetch(nowhere, {"set.bin": MD5}, tmp_path, "The set", progress=False, mirrors=[nowhere, server.url])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["no address", "gopher://localhost"])
def test_an_address_that_is_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not be downloaded"):
        get(url, tmp_path)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Not a directory"):
        get(server.url, tmp_path / "file/cache")
    assert not server.requests


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT
    with _part_of(tmp_path / "set.bin"):
        with pytest.raises(DataError, match=r"another process is downloading set\.bin right now"):
            get(server.url, tmp_path)
    assert get(server.url, tmp_path).exists()


def test_progress_is_shown_in_a_terminal(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["set.bin"] = CONTENT
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    get(server.url, tmp_path, progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "set.bin" in shown.err and "100%" in shown.err


def test_certificates_of_certifi_stand_in_for_missing_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("certifi")
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context = _ssl_context()
    assert context.get_ca_certs() and context.verify_mode == ssl.CERT_REQUIRED
