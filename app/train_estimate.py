"""How long a training will take, measured in a process of its own by `condconv-mlx train --estimate`."""

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from condconv_mlx.runs.process import COMMAND, MISTAKE, PYTHON


@dataclass(frozen=True)
class Pace:
    """What was measured: images a second, seconds a step, and how many steps an epoch has."""

    images_per_second: float
    seconds_per_step: float
    steps_per_epoch: int

    def seconds(self, epochs: float) -> float:
        """For so many epochs."""
        return max(1, round(epochs * self.steps_per_epoch)) * self.seconds_per_step


class Measuring:
    """A measuring that goes on or is over.

    Attributes:
        begun: when, by the monotonic clock.
        pace: what was found, None as long as it goes on or if it failed.
        problem: why it failed, in words, or "".
    """

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.pace: Pace | None = None
        self.problem = ""

    @property
    def over(self) -> bool:
        """Whether it ended, well or not."""
        return self.pace is not None or bool(self.problem)

    def _run(self, arguments: Sequence[str]) -> None:
        try:
            # Two at once would disturb each other.
            with _turn:
                self.pace = measure(arguments)
        except (ValueError, OSError) as error:
            self.problem = str(error) or "nothing could be measured"


_turn = threading.Lock()
# By the arguments that the time of a step depends on, for all tabs.
_known: dict[tuple[str, ...], Measuring] = {}


def known(arguments: Sequence[str]) -> Measuring | None:
    """What was measured with these arguments since the app began, or is being measured."""
    return _known.get(tuple(arguments))


def start(arguments: Sequence[str]) -> None:
    """Measure with these arguments, on a thread that waits for the process; again, if that is done."""
    before = known(arguments)
    if before is None or before.over:
        measuring = _known[tuple(arguments)] = Measuring()
        # A daemon, since Ctrl-C shall not wait for it.
        threading.Thread(target=measuring._run, args=(arguments,), daemon=True).start()


def measure(arguments: Sequence[str]) -> Pace:
    """Measure some steps; none of it runs in this process.

    Args:
        arguments: of `condconv-mlx train` that the time of a step depends on.

    Raises:
        ValueError: with a sentence, if there is nothing to measure.
    """
    done = subprocess.run(
        [*PYTHON, *COMMAND[1:], *arguments, "--estimate", "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        raise ValueError(lines[-1].removeprefix(MISTAKE) if lines else "nothing could be measured")
    found = json.loads(done.stdout)
    return Pace(found["images_per_second"], found["seconds_per_step"], found["steps_per_epoch"])
