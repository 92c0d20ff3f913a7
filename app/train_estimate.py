"""How long a training will take, measured in a process of its own by `condconv-mlx train --estimate`."""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from condconv_mlx.runs_process import COMMAND, MISTAKE, PYTHON

POLL = 0.2
# By the arguments that the time of a step depends on, for all tabs.
_measured: dict[tuple[str, ...], "Pace"] = {}


@dataclass(frozen=True)
class Pace:
    """What was measured: images a second, seconds a step, and how many steps an epoch has."""

    images_per_second: float
    seconds_per_step: float
    steps_per_epoch: int

    def seconds(self, epochs: float) -> float:
        """For so many epochs."""
        return max(1, round(epochs * self.steps_per_epoch)) * self.seconds_per_step


def known(arguments: Sequence[str]) -> Pace | None:
    """What was measured with these arguments since the app began, if it was."""
    return _measured.get(tuple(arguments))


def measure(arguments: Sequence[str], alive: Callable[[], object]) -> Pace:
    """Measure some steps; none of it runs in this process.

    Args:
        arguments: of `condconv-mlx train` that the time of a step depends on.
        alive: called again and again meanwhile. What it raises ends the measuring.

    Raises:
        ValueError: with a sentence, if there is nothing to measure.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*PYTHON, *COMMAND[1:], *arguments, "--estimate", "--json"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            while process.poll() is None:
                alive()
                time.sleep(POLL)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        errors.seek(0)
        said, lines = output.read(), errors.read().strip().splitlines()
    if process.returncode:
        raise ValueError(lines[-1].removeprefix(MISTAKE) if lines else "nothing could be measured")
    found = json.loads(said)
    pace = Pace(found["images_per_second"], found["seconds_per_step"], found["steps_per_epoch"])
    _measured[tuple(arguments)] = pace
    return pace
