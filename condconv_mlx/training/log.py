"""The log of a run: JSON lines, which may be read while they are written.

Every line has a "kind" and the "step" after which it was written. A process killed in the middle of a line leaves it
torn, and readers pass over it; lines beyond the checkpoint from which a run goes on are dropped when it does.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condconv_mlx.files import replacing

LOG = "log.jsonl"


@dataclass
class Log:
    """What a run has logged so far.

    Attributes:
        start: "steps", "steps_per_epoch", "batch_size", "device" and "processes" of the latest sitting, or None.
        steps: about 20 lines an epoch: "step", "epoch" (with its fraction), "loss" and "accuracy" of the training
            images since the line before, "learning_rate", "images_per_second", "seconds" of training in all, and
            "memory_mb".
        epochs: the same of whole epochs, with "held_out_accuracy" and "held_out_loss" (None without held-out images)
            and, under "routing", by the name of each router "entropy", "saturated", "deviation" and "experts" (see
            `explain.usage`).
        end: how the latest sitting ended: "reason" ("finished", "stopped", "diverged" or "failed") and "message"; None
            while it goes on, and after a kill.
    """

    start: dict[str, Any] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None


def read_log(folder: Path) -> Log:
    """The log of the run in a folder, empty if there is none. Lines that are torn are passed over."""
    log = Log()
    for line in _lines(Path(folder) / LOG):
        match line.get("kind", "epoch"):
            case "start":
                log.start, log.end = line, None
            case "step":
                log.steps.append(line)
            case "epoch":
                log.epochs.append(line)
            case "end":
                log.end = line
    return log


def append_line(folder: Path, kind: str, step: int, **content: Any) -> None:
    """Write one line, at once and whole."""
    line = json.dumps({"kind": kind, "step": step, **content}) + "\n"
    with open(folder / LOG, "ab", buffering=0) as file:
        data = line.encode()
        # The system may write less than it was given, as on a full disk; the next attempt says why.
        while data:
            data = data[file.write(data) or 0 :]


def drop_lines_after(folder: Path, step: int) -> None:
    """Leave out lines that were written after a step, and torn ones, so that what follows them is written once."""
    path = folder / LOG
    if path.exists():
        kept = [json.dumps(line) + "\n" for line in _lines(path) if line.get("step", 0) <= step]
        with replacing(path) as temporary:
            temporary.write_text("".join(kept))


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    lines = []
    for line in text.split("\n"):
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            lines.append(content)
    return lines
