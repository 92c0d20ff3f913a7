"""A web server on the loopback address that answers as the Hugging Face hub does."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Serves `files` by "repo/name". `cuts`: after how many bytes the next answers with weights break off.

    Weights lie on another host, as on the hub: the name "localhost" of the same server.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        # Of every answer, unless 0.
        self.status = 0
        # Of each request its method, the path of its file and its Range.
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def storage(self) -> str:
        return f"http://localhost:{self.server_address[1]}/storage"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        name = self.path.removeprefix("/storage").removeprefix("/").replace("/resolve/main/", "/")
        self.server.requests.append((self.command, name, self.headers.get("Range")))
        repos = {known.rsplit("/", 1)[0] for known in self.server.files}
        if self.server.status:
            self.refuse(self.server.status, {})
        elif name.rsplit("/", 1)[0] not in repos:
            self.refuse(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif name not in self.server.files:
            self.refuse(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif name.endswith(".safetensors") and not self.path.startswith("/storage"):
            self.point_to_storage(name)
        else:
            self.send(self.server.files[name], body)

    def refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def point_to_storage(self, name: str) -> None:
        content = self.server.files[name]
        self.refuse(
            302,
            {
                "Location": f"{self.server.storage}/{name}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            },
        )

    def send(self, content: bytes, body: bool) -> None:
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        content = content[start:]
        # What describes the weights always comes through.
        if body and self.server.cuts and self.path.startswith("/storage"):
            content = content[: self.server.cuts.pop(0)]
        if body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    """A safetensors file of float32 arrays."""
    header, offset = {}, 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [offset, offset + 4 * array.size],
        }
        offset += 4 * array.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    return len(text).to_bytes(8, "little") + text + data
