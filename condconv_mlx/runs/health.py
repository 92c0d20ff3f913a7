"""What is wrong with the routing of a training run, in words."""

from condconv_mlx.explain.usage import CONSTANT, SATURATED
from condconv_mlx.runs.finding import Run

COLLAPSED = 0.01  # mean routing weight, and at most a tenth of what each would have if all were used alike
NEARLY_ALL = 0.95
ADVICE = "A loss for even use of the experts (0.01) and dropout on the routing weights help against that."


def concerns(run: Run) -> list[str]:
    """A sentence for each router whose experts were wrong after the last epoch, by the held-out images."""
    routing = (run.log.epochs[-1].get("routing") or {}) if run.log.epochs else {}
    found = []
    for name, numbers in routing.items():
        router, means = name.removesuffix(".router"), numbers["experts"]
        total = sum(means)
        gone = [i + 1 for i, mean in enumerate(means) if mean < min(COLLAPSED, 0.1 * total / len(means))]
        if gone:
            some = f"expert {gone[0]} has" if len(gone) == 1 else f"experts {', '.join(map(str, gone))} have"
            found.append(f"In {router}, {some} collapsed: a mean routing weight below {COLLAPSED:g}.")
        if len(means) > 1 and numbers["deviation"] < CONSTANT:
            found.append(f"{router} routes all images alike: its weights differ by {numbers['deviation']:.3f} only.")
        elif numbers["saturated"] > NEARLY_ALL:
            share = f"{numbers['saturated']:.0%}".replace("%", " %")
            found.append(f"{share} of the weights of {router} are within {SATURATED:g} of 0 or 1, and hardly learn.")
    return found
