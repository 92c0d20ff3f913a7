"""Downloads of published weights, each on a thread of its own, so that MLX can do other work meanwhile."""

import threading
from collections.abc import Callable

MEGABYTE = 10**6

_lock = threading.Lock()
_running: dict[str, "Download"] = {}


class Download:
    """A download under way, or over.

    Attributes:
        done: bytes that are here.
        total: bytes of the file; about, until the first have come.
    """

    def __init__(self, total: int) -> None:
        self.done = 0
        self.total = total
        self._error: BaseException | None = None
        self._over = threading.Event()

    @property
    def over(self) -> bool:
        """Whether it ended, well or not."""
        return self._over.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it ended within that time. Raises HubError if it failed; the message says what to do."""
        over = self._over.wait(seconds)
        if over and self._error:
            raise self._error
        return over

    def _report(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    def _run(self, name: str, end: Callable[[], None]) -> None:
        from condconv_mlx.convert.hub import fetch

        try:
            fetch(name, report=self._report)
        except Exception as error:
            self._error = error
        end()
        self._over.set()


def start(name: str, megabytes: int) -> Download:
    """Download the weights of `engine.published` of that name and size, or join whoever does so already."""
    with _lock:
        if name not in _running:
            download = Download(megabytes * MEGABYTE)
            _running[name] = download
            # A daemon, since Ctrl-C shall not wait for it.
            threading.Thread(target=download._run, args=(name, lambda: _end(name)), daemon=True).start()
        return _running[name]


def running(name: str) -> Download | None:
    """The download of that name that is under way, whoever started it."""
    with _lock:
        return _running.get(name)


def _end(name: str) -> None:
    with _lock:
        del _running[name]
