"""Files over HTTP: with a progress bar, resumed where they broke off, and checked before they count as there."""

import fcntl
import hashlib
import http.client
import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from condconv_mlx.data.dataset import DataError

TIMEOUT = 30.0
ATTEMPTS = 3
CHUNK = 2**18
USER_AGENT = "condconv-mlx (data set download)"


class _Failed(Exception):
    """Why a download did not come through."""


def fetch(
    base_url: str,
    md5: dict[str, str],
    folder: Path,
    title: str,
    progress: bool = True,
    mirrors: Sequence[str] = (),
) -> None:
    """Download the files named by `md5` (name -> checksum) from `base_url`, else from a mirror, into `folder`.

    Each is written to NAME.part, which the next mirror or a later call goes on with, checked and renamed. Raises
    DataError with the addresses and the folder, so that the files can be brought some other way.
    """
    urls = {name: f"{base_url.rstrip('/')}/{name}" for name in md5}
    for name, url in urls.items():
        target = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _part_of(target) as part:
                if not target.exists():
                    addresses = [url, *(f"{mirror.rstrip('/')}/{name}" for mirror in mirrors)]
                    _download_from_any(addresses, target, part, md5[name], progress)
        except (_Failed, OSError, http.client.HTTPException, ValueError) as error:
            left = [url for name, url in urls.items() if not (folder / name).exists()]
            raise DataError(
                f"{title} is not here and could not be downloaded ({_reason(error)}). Try again, or fetch "
                f"{' and '.join(left)} some other way and put {'it' if len(left) == 1 else 'them'} in {folder}"
            ) from error


@contextmanager
def _part_of(target: Path) -> Iterator[BinaryIO]:
    """Open NAME.part for appending, for this process alone. Empty, it is not left behind."""
    path = target.with_name(target.name + ".part")
    with path.open("ab+") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _Failed(f"another process is downloading {target.name} right now") from error
        try:
            yield part
        finally:
            if path.exists() and path.stat().st_size == 0:
                path.unlink()


def _download_from_any(urls: list[str], target: Path, part: BinaryIO, md5: str, progress: bool) -> None:
    *others, last = urls
    for url in others:
        with suppress(_Failed, OSError, http.client.HTTPException, ValueError):
            _download(url, target, part, md5, progress)
            return
    _download(last, target, part, md5, progress)


def _download(url: str, target: Path, part: BinaryIO, md5: str, progress: bool) -> None:
    found = ""
    for attempt in range(ATTEMPTS):
        before = part.seek(0, os.SEEK_END)
        try:
            _receive(url, part, before, progress)
        except (_Failed, OSError, http.client.HTTPException):
            # Going on makes sense only where the server sent something at all.
            if attempt + 1 == ATTEMPTS or part.seek(0, os.SEEK_END) <= before:
                raise
            continue
        found = _md5(part)
        if found == md5:
            os.replace(part.name, target)
            return
        part.truncate(0)
        # Bytes left by an earlier attempt may be at fault; a file that came in one piece is simply another one.
        if before == 0:
            break
    raise _Failed(f"what {url} gave has the MD5 checksum {found} and not {md5}, so it was removed")


def _receive(url: str, part: BinaryIO, start: int, progress: bool) -> None:
    """Append what the server has from byte `start` on, or begin anew if it can only send the whole file."""
    headers = {"User-Agent": USER_AGENT}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT, context=_ssl_context())
    except HTTPError as error:
        # 416: there is nothing after `start`, so the part may be whole; its checksum tells.
        if error.code == 416 and start:
            return
        raise _Failed(f"{url} answered {error.code} {error.reason}") from error
    with response:
        if start and response.status != 206:
            part.truncate(0)
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(
            total=total,
            initial=start,
            desc=Path(url).name,
            unit="B",
            unit_scale=True,
            disable=None if progress else True,
        )
        with bar:
            while chunk := response.read(CHUNK):
                part.write(chunk)
                bar.update(len(chunk))
        part.flush()
        if total is not None and part.seek(0, os.SEEK_END) < total:
            raise _Failed(f"the connection broke off after {part.tell()} of {total} bytes")


def _ssl_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python from python.org has no root certificates on macOS until its own script has been run.
    if not context.get_ca_certs():
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


def _md5(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason)
