"""Ways in which a run ends before its time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(KeyboardInterrupt):
    """A run was told to stop by a signal, and has saved all that it takes to go on.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Diverged(ValueError):
    """The loss or a weight is no longer a finite number. The checkpoint is older than that."""


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """The numbers of the SIGINT and SIGTERM that arrive during the block, which has to look at them.

    So a step is done or not begun when a run ends. A second SIGINT interrupts at once. Only the main thread can catch
    signals; in another one the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def catch(number: int, frame: Any) -> None:
        caught.append(number)
        if caught.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt

    # Where SIGINT is ignored, as in the background of a script, it stays so.
    wanted = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, catch) for number in wanted}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
