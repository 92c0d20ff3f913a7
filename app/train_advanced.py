"""Settings of a training that not everybody changes."""

from typing import Any

import streamlit as st

from condconv_mlx.app.train_plan import RECIPES, USUAL
from condconv_mlx.cli.training_arguments import RATES
from condconv_mlx.data import FILES
from condconv_mlx.models.condconv_small import Settings

PIXELS = range(8, 1025)
OPTIMIZERS = {"sgd": "SGD, Nesterov momentum", "adamw": "AdamW", "muon": "Muon, on convolutions"}
# What is typed stays while other pages are looked at.
KEEP: dict[str, Any] = {"persist_state": "session"}


def advanced(recipe: str, data: str, network: dict[str, Any]) -> dict[str, Any]:
    """What a person may change, by the names of the command line.

    Args:
        recipe: from which the widgets have their first values.
        data: set of images.
        network: options that say what is trained. One that begins with a trained network has its settings.
    """
    starts, small = "start" in network, network.get("model") == USUAL["model"]
    usual = USUAL | RECIPES[recipe].options | ({"flip": False} if data == "mnist" else {})

    def number(label: str, name: str, least: float, most: float, step: float, case: str = "", **options: Any) -> Any:
        first = usual[name] if name in usual else None
        key = f"train {name} {recipe}{case}"
        return st.number_input(label, least, most, first, step, key=key, **KEEP, **options)

    def choice(label: str, name: str, values: dict[str, str], **options: Any) -> str:
        return st.selectbox(
            label,
            list(values),
            list(values).index(usual[name]),
            format_func=values.__getitem__,
            key=f"train {name} {recipe}",
            **KEEP,
            **options,
        )

    chosen: dict[str, Any] = {}
    with st.expander("Advanced", type="compact", icon=":material/tune:", key="train advanced"):
        optimisation, routing, images = st.columns(3, gap="medium")
        with optimisation:
            st.markdown("**Optimisation**")
            chosen["batch_size"] = number("Batch size", "batch_size", 2, 4096, 1, help="Images a step.")
            chosen["optimizer"] = choice(
                "Optimizer",
                "optimizer",
                OPTIMIZERS,
                help="Muon learns in fewer epochs, and a step takes a tenth longer.",
            )
            tenth = 10 if starts else 1
            rates = RATES[chosen["optimizer"]]
            chosen["learning_rate"] = number(
                "Learning rate",
                "learning_rate",
                0.0,
                10.0,
                0.01,
                format="%g",
                placeholder=f"{rates['learning_rate'] / tenth:g}",
                help="At its peak.",
            )
            chosen["schedule"] = choice("Schedule", "schedule", {"cosine": "Cosine", "one-cycle": "One cycle"})
            if chosen["schedule"] == "cosine":
                chosen["warmup"] = number(
                    "Warm-up", "warmup", 0.0, 100.0, 0.5, help="How many epochs the learning rate rises first."
                )
            if chosen["optimizer"] != usual["optimizer"]:
                usual["weight_decay"] = None
            chosen["weight_decay"] = number(
                "Weight decay",
                "weight_decay",
                0.0,
                1.0,
                0.0005,
                case=f" {chosen['optimizer']}",
                format="%g",
                placeholder=f"{rates['weight_decay']:g}",
            )
            if chosen["optimizer"] != "muon":
                chosen["decay"] = choice(
                    "What decays", "decay", {"all": "All weights", "kernels": "Kernels, not biases and norms"}
                )
            chosen["label_smoothing"] = number("Label smoothing", "label_smoothing", 0.0, 0.9, 0.05)
            chosen["clip"] = number("Clip gradients to", "clip", 0.0, 100.0, 0.5, help="0 is off, 1 is usual.")
            chosen["ema"] = number(
                "Average the weights",
                "ema",
                0.0,
                0.9999,
                0.001,
                format="%g",
                help="By how much the moving average keeps of itself: 0 is off, 0.999 is usual.",
            )
            chosen["seed"] = number("Seed", "seed", 0, 2**31 - 1, 1)
        with routing:
            st.markdown("**Network and routing**")
            if not starts and network["experts"]:
                chosen["routing"] = choice(
                    "Routing weights", "routing", {"sigmoid": "Sigmoid, the paper's", "softmax": "Softmax"}
                )
                chosen["router_dropout"] = number(
                    "Routing dropout",
                    "router_dropout",
                    0.0,
                    0.9,
                    0.05,
                    placeholder="the network's own",
                    help="How often an expert's weight is dropped in training, against over-fitting.",
                )
            if not starts:
                chosen["norm"] = choice(
                    "Normalisation",
                    "norm",
                    {"batch": "Batch", "group": "Group", "layer": "Layer"},
                    help="Group serves small batches better.",
                )
            if small:
                chosen["width"] = number(
                    "Width", "width", 1, 512, 1, placeholder=f"{Settings.width}", help="Channels of the first layer."
                )
            chosen["balance"] = number(
                "Loss for uneven use",
                "balance",
                0.0,
                1.0,
                0.01,
                help="Against experts that collapse: 0 is off, try 0.01.",
            )
            chosen["precision"] = choice("Arithmetic", "precision", {"float32": "float32", "bfloat16": "bfloat16"})
        with images:
            st.markdown("**Images**")
            if data.startswith("folder:") and not starts:
                chosen["size"] = number(
                    "Side in pixels",
                    "size",
                    PIXELS[0],
                    PIXELS[-1],
                    8,
                    placeholder="theirs, or 32",
                    help="All come out square.",
                )
            chosen["flip"] = st.toggle(
                "Mirror images", usual["flip"], key=f"train flip {recipe} {data == 'mnist'}", **KEEP
            )
            chosen["shift"] = number("Shift by up to, in pixels", "shift", 0, 64, 1)
            chosen["cutout"] = number("Hide a square, in pixels", "cutout", 0, 256, 1, help="0 is off.")
            chosen["mixup"] = number(
                "Mix images in pairs", "mixup", 0.0, 5.0, 0.1, help="Mixup: 0 is off, 0.2 is usual."
            )
            chosen["cutmix"] = number(
                "Paste parts of others", "cutmix", 0.0, 5.0, 0.1, help="CutMix: 0 is off, 1 is usual."
            )
            chosen["jitter"] = number(
                "Vary brightness and colours", "jitter", 0.0, 1.0, 0.1, help="By up to this share; 0 is off."
            )
            if data.startswith("folder:") or FILES[data].shape[-1] == 3:
                chosen["hue"] = number(
                    "Turn hues", "hue", 0.0, 0.5, 0.05, help="By up to this share of a turn; 0 is off."
                )
            chosen["policy"] = number(
                "Random operations", "policy", 0, 4, 1, help="RandAugment: how many for each image; 0 is off."
            )
    return {name: value for name, value in chosen.items() if value is not None}
