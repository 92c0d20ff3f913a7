"""One run: train a network on a part of the training images, and test its last weights on all test images.

As a program, `python -m condconv_mlx.study.one RESULT` reads the run as JSON from its standard input, writes the result
to the file RESULT when it is done, and tells on its standard output how far it is, a number up to 1 a line.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condconv_mlx.data import Dataset
    from condconv_mlx.explain.usage import Usage
    from condconv_mlx.study.plan import Run

ROUTED = 1000  # test images on which the routing is measured


def carry_out(run: "Run", dataset: "Dataset", on_progress: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Train and test; plain JSON. `on_progress` hears how far it is, up to 1.

    Accuracies are shares of 1. `seconds` is the time of the training, `cpu_seconds` that of the processor alone, which
    is the same on an idle machine and says more on a busy one. `epochs` has the mean loss and the accuracy on the
    training images, as they were seen, a row an epoch.
    """
    import mlx.core as mx

    from condconv_mlx.complexity import count
    from condconv_mlx.data import normalise
    from condconv_mlx.explain import trace, usage
    from condconv_mlx.models import create_model
    from condconv_mlx.training import TrainingSettings, evaluate, read_log, train

    mx.random.seed(run.training["seed"])
    model: Any = create_model("condconv_small", num_classes=len(dataset.labels), **run.model)
    part = subset(dataset, run.images)
    with tempfile.TemporaryDirectory(prefix="condconv-mlx-study-") as temporary:
        folder = Path(temporary) / "run"
        before = time.perf_counter(), time.process_time()
        train(
            model,
            part,
            folder,
            TrainingSettings(**run.training),
            on_progress=on_progress and (lambda progress: on_progress(progress.step / progress.steps)),
        )
        seconds, cpu_seconds = time.perf_counter() - before[0], time.process_time() - before[1]
        epochs = read_log(folder).epochs
    wanted = model.info["input"]
    tested = evaluate(model, dataset.test_images, dataset.test_labels, wanted)
    seen = trace(model, normalise(dataset.test_images[:ROUTED], wanted["mean"], wanted["std"]))
    counted = count(model, part.train_images.shape[1:])
    return {
        "run": asdict(run),
        "test_accuracy": tested.accuracy,
        "test_loss": tested.loss,
        "test_images": tested.count,
        "train_images": len(part.train_images),
        "epochs": [{name: line[name] for name in ("loss", "accuracy")} for line in epochs],
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "multiply_adds": counted.madds,
        "parameters": counted.params,
        "routing": {router.name: _plain(usage(router.weights)) for router in seen.routers},
        "device": str(mx.default_device()),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "version": metadata.version("condconv-mlx"),
    }


def _plain(usage: "Usage") -> dict[str, Any]:
    return asdict(usage) | {"experts": list(usage.experts)}


def subset(dataset: "Dataset", images: int) -> "Dataset":
    """With so many of the training images, drawn once and for all; all of them if there are no more."""
    import numpy as np

    chosen = np.random.default_rng(0).permutation(len(dataset.train_images))[:images]
    return replace(dataset, train_images=dataset.train_images[chosen], train_labels=dataset.train_labels[chosen])


def main() -> None:
    """The program."""
    from condconv_mlx.cpu import tune_process

    tune_process()
    from condconv_mlx.data import load_dataset
    from condconv_mlx.study.plan import Run
    from condconv_mlx.training.run_folder import write_json

    last = 0.0

    def tell(share: float) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            print(share, flush=True)

    run = Run(**json.load(sys.stdin))
    write_json(Path(sys.argv[1]), carry_out(run, load_dataset(run.data, progress=False), tell))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(" ".join(str(error).split()))
