"""Measure how active the experts of a model usually are, for the file beside its weights that the app compares with."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from condconv_mlx.cpu import tune_process

if TYPE_CHECKING:
    from condconv_mlx.data.streaming import StreamedImages

BATCH = 100


def main(arguments: list[str] | None = None) -> None:
    """Measure on the test images of a data set, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m condconv_mlx.routing_reference", description=__doc__)
    parser.add_argument("name", help="of shipped weights, or the path of a file of weights")
    parser.add_argument("--data", required=True, help="a data set, as condconv-mlx evaluate takes it")
    parser.add_argument("--of", default="test images", help="what its images are (default: %(default)s)")
    args = parser.parse_args(arguments)
    # First of all: OpenBLAS comes before MLX or not at all.
    tune_process()

    from condconv_mlx import list_weights, load_model
    from condconv_mlx.checkpoint import weights_folder
    from condconv_mlx.data import load_dataset
    from condconv_mlx.explain import reference, save_reference

    path = weights_folder() / f"{args.name}.safetensors" if args.name in list_weights() else Path(args.name)
    weights = routing_weights(load_model(path), load_dataset(args.data).test_images)
    print(save_reference(path, reference(weights, args.of)))


def routing_weights(model: Any, images: "np.ndarray | StreamedImages") -> dict[str, np.ndarray]:
    """(N, E) for the name of each router, from uint8 images (N, size, size, channels)."""
    from condconv_mlx.data import normalise
    from condconv_mlx.explain import trace

    wanted = model.info["input"]
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(images), BATCH):
        x = normalise(images[start : start + BATCH], wanted["mean"], wanted["std"])
        for router in trace(model, x).routers:
            parts.setdefault(router.name, []).append(router.weights)
    return {name: np.concatenate(tables) for name, tables in parts.items()}


if __name__ == "__main__":
    main()
