"""The question before weights are downloaded."""

import argparse
import sys


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Declare `--yes`."""
    parser.add_argument("--yes", action="store_true", help="download weights without asking")


def confirm_download(name: str, yes: bool) -> None:
    """Ask whether to fetch weights that are on the hub and not here. `ValueError` unless the answer is yes."""
    from condconv_mlx.convert.hub import HUB_MODELS, TAG, cached, hub_model

    if name.removesuffix(TAG) not in HUB_MODELS or yes or cached(name):
        return
    model = hub_model(name)
    what = f"{model.architecture} is not here yet: {model.megabytes} MB from huggingface.co/{model.repo}"
    if not sys.stdin.isatty():
        raise ValueError(f"{what}. To download it, say --yes")
    print(f"{what}. Download it? [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    # Ctrl-D gives nothing at all, Enter a new line.
    if not answer or answer.strip().lower() not in ("", "y", "yes"):
        raise ValueError("nothing was downloaded")
