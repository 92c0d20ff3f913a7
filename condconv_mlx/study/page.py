"""The answers as one HTML page, and as lines of text."""

from collections.abc import Sequence

from condconv_mlx.charts.study import Row, accuracies, by_experts, differences
from condconv_mlx.models.condconv_small import CHANNELS
from condconv_mlx.report import Chart, described, document, drawn, plain, table
from condconv_mlx.study.plan import COUNTS, DROPOUT, EXPERTS, FEW, LONGER, MIXUP, TEMPERATURE, Recipe
from condconv_mlx.study.results import TARGET, Answer, ArmResult, Comparison
from condconv_mlx.study.statistics import CONFIDENCE, Estimate
from condconv_mlx.tables import aligned

_HEADINGS = {
    "static": "Is CondConv ahead of a static network?",
    "experts": "How many experts?",
    "start": "Where should CondConv start?",
    "routing": "Sigmoid or softmax?",
    "routers": "One router a block, or one a layer?",
    "regularisation": "Do routing dropout and mixup help?",
    "longer": "What does longer training change?",
    "modes": "Mix kernels or outputs in training?",
}
# What the paper says, and how it is asked here.
_ABOUT = {
    "static": (
        "On ImageNet, with 8 experts, the paper's networks gain 0.9 to 3.0 points of accuracy for 3 to 9 % more "
        "multiply-adds: MobileNetV1 71.9 → 73.7 %, MobileNetV2 71.6 → 74.6 %, ResNet-50 77.7 → 78.6 %.",
        f"{EXPERTS} experts against two static networks: one of equal width, and one whose blocks were widened until "
        "it multiplies at least as much. The dotted line is the aim that we set ourselves.",
    ),
    "experts": (
        "More experts help, with smaller and smaller returns.",
        f"The same network with {', '.join(map(str, COUNTS))} experts. One alone is a static kernel that the router "
        "makes stronger or weaker.",
    ),
    "start": (
        "Routing weights of early layers look alike for all classes, and grow specific with depth; most of the paper's "
        "networks have CondConv in their later half alone, and the classifier.",
        "The network has three residual blocks and a classifier; from where on they are CondConv.",
    ),
    "routing": (
        "The paper routes by a sigmoid, each expert for itself. Dynamic Convolution (arXiv 1912.03458) takes a "
        "softmax, by which they compete.",
        "Only the last step of the routers differs. The softmax has the temperature 1, or is cooled from "
        f"{TEMPERATURE:g} to 1 over the first half of the training, as Dynamic Convolution has it in its first epochs.",
    ),
    "routers": (
        "The paper has one router a block, on the input of the block, shared by its convolutions.",
        "The same, against a router for each convolution on its own input.",
    ),
    "regularisation": (
        "The paper finds that CondConv over-fits, and wants dropout on the routing weights, mixup and stronger "
        "augmentation.",
        f"Each routing weight is dropped with probability {DROPOUT:g}; mixup draws from Beta({MIXUP:g}, {MIXUP:g}). "
        "The accuracy on training images is among the numbers.",
    ),
    "longer": (
        "A network with more parameters has more to learn.",
        f"The same recipe with {LONGER} times as many epochs.",
    ),
    "modes": (
        "Both give the same result, as convolution is linear. The paper finds that mixing the outputs of all experts "
        "trains faster where there are few, and mixing kernels where there are many.",
        f"{FEW} experts; the mode is that of the convolutions with experts. The two round differently, so the runs "
        "part after some steps: what is left is what chance does.",
    ),
}
_COLUMNS = (
    "",
    "multiply-adds",
    "parameters",
    "seeds",
    "test accuracy",
    "training accuracy",
    "loss of epoch 1",
    "images/s",
    "saturated",
    "deviation",
)
_NOTE = (
    "Training accuracy and loss are those of augmented images, as they were seen; images a second count the time of "
    "the processor where that computes. Saturated and deviation are of the classifier's router on test images: the "
    "share of weights that are almost 0 or 1, and by how much a weight differs from image to image."
)
_VERDICTS = {"ahead": "ahead", "behind": "behind", "open": "open: zero lies within"}


def page(recipe: Recipe, source: str, answers: Sequence[Answer]) -> str:
    """The page: what all runs share, then each question with its charts, what they come to, and the numbers."""
    sections: list[str] = []
    for answer in answers:
        if not answer.arms:
            continue
        paper, here = _ABOUT[answer.question]
        missing = f"<p>{answer.missing} of its runs are still to be done.</p>" if answer.missing else ""
        sections.append(
            f"<section id={answer.question}><h2>{plain(_HEADINGS[answer.question])}</h2>"
            f"<p>{plain(paper)}</p><p>{plain(here)}</p>{missing}"
            f"{drawn(_charts(answer), script=not sections)}{table(_comparisons(answer)) if answer.comparisons else ''}"
            f"<details><summary>All numbers</summary>{table(_arms(answer))}<small>{_NOTE}</small></details></section>"
        )
    return document("What holds of CondConv at small scale", _shared(recipe, source, answers) + "".join(sections))


def text(answers: Sequence[Answer]) -> str:
    """The answers for a terminal."""
    blocks = []
    for answer in answers:
        if answer.arms:
            arms = [(row[0], *row[3:5], row[1]) for row in _arms(answer)]
            compared = aligned(_comparisons(answer)[1:]) if answer.comparisons else []
            blocks.append("\n".join([_HEADINGS[answer.question], *aligned(arms), *compared]))
    return "\n\n".join(blocks)


def _shared(recipe: Recipe, source: str, answers: Sequence[Answer]) -> str:
    devices = sorted({device for each in answers for device in each.devices})
    versions = sorted({version for each in answers for version in each.versions})
    days = sorted({day for each in answers for day in each.days})
    flip = ", mirror images" if recipe.flip else ""
    blocks = ", ".join(f"{share:g}" for share in CHANNELS)
    rows = [
        ("Data", f"{source}: {recipe.images:,} training images, the same for all, and all test images"),
        ("Network", f"condconv_small with {recipe.width} channels in the stem and {blocks} times that in the blocks"),
        (
            "Recipe",
            f"the same for all sides: {recipe.epochs:g} epochs, batches of {recipe.batch_size}, SGD with Nesterov "
            f"momentum 0.9, learning rate {recipe.learning_rate:g} after one epoch of warm-up, then along a cosine to "
            f"0; weight decay 0.0005, label smoothing 0.1; shifts by {recipe.shift} pixels{flip}",
        ),
        ("Measured", "the last weights on the test images; no epoch and no setting was chosen by them"),
        (
            "Intervals",
            f"{CONFIDENCE:.0%}, by Student's t over seeds. A seed decides the first weights, the order of the images, "
            "augmentation and dropout. Differences are taken seed by seed. Each interval stands for itself: of twenty, "
            "one misses by chance. They tell of these images, not of others",
        ),
    ]
    if days:
        period = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        rows.append(("Made", f"on {', '.join(devices)} by condconv-mlx {', '.join(versions)}, {period}"))
    return described(rows)


def _charts(answer: Answer) -> list[Chart]:
    left = ("Test accuracy", accuracies([_accuracy(arm) for arm in answer.arms]))
    counted = {arm.name: arm for arm in answer.arms}
    if answer.question == "experts" and "static" in counted:
        several = [arm for arm in answer.arms if arm.name != "static"]
        if several:
            rows = [_accuracy(arm) for arm in several]
            counts = [int(arm.name.split()[0]) for arm in several]
            left = ("Test accuracy", by_experts(counts, rows, ("static", counted["static"].accuracy.mean)))
    if not answer.comparisons:
        return [left]
    target = TARGET if answer.question == "static" else None
    return [left, ("Paired differences", differences([_difference(each) for each in answer.comparisons], target))]


def _accuracy(arm: ArmResult) -> Row:
    detail = f"{arm.multiply_adds / 1e6:.2f} M multiply-adds"
    accented = not arm.name.startswith("static")
    return Row(arm.name, detail, arm.accuracy.mean, _interval(arm.accuracy), arm.test_accuracy, accented)


def _difference(comparison: Comparison) -> Row:
    accented = comparison.verdict != "open"
    detail = f"less {comparison.other}"
    mean = comparison.estimate.mean
    return Row(comparison.arm, detail, mean, _interval(comparison.estimate), comparison.differences, accented)


def _interval(estimate: Estimate) -> tuple[float, float] | None:
    return None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)


def _comparisons(answer: Answer) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "points", f"{CONFIDENCE:.0%} interval", "seeds", "")]
    for each in answer.comparisons:
        interval = _interval(each.estimate)
        verdict = _VERDICTS[each.verdict] if interval else "open: one seed"
        if answer.question == "static":
            verdict += f"; aim of {TARGET:g} {'met' if each.reaches_target else 'missed'}"
        rows.append(
            (
                f"{each.arm} less {each.other}",
                f"{each.estimate.mean:+.2f}",
                f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "",
                str(each.estimate.n),
                verdict,
            )
        )
    return rows


def _arms(answer: Answer) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for arm in answer.arms:
        interval = _interval(arm.accuracy)
        half = f" ± {interval[1] - arm.accuracy.mean:.2f}" if interval else ""
        # The last router is the classifier's, in all of these networks.
        last = next(reversed(arm.routing.values()), None)
        rows.append(
            (
                arm.name,
                f"{arm.multiply_adds / 1e6:.2f} M",
                f"{arm.parameters:,}",
                str(arm.accuracy.n),
                f"{arm.accuracy.mean:.2f}{half} %",
                f"{arm.train_accuracy:.2f} %",
                f"{arm.first_loss:.4f}",
                f"{arm.images_per_second:,.0f}",
                f"{last['saturated']:.0%}" if last else "",
                f"{last['deviation']:.3f}" if last else "",
            )
        )
    return rows
