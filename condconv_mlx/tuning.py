"""Which strategy is fastest on this device for each CondConv layer of a model, among those that compute it right."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from condconv_mlx import functional as F
from condconv_mlx import plain
from condconv_mlx.functional.choice import backend, recording
from condconv_mlx.functional.defaults import Case, candidates, default
from condconv_mlx.functional.tuned import Measurement
from condconv_mlx.verify import DTYPES, output_and_gradients, relative_error, tolerance

Run = Callable[[], Any]

# A candidate has to beat the default by this much in three rounds of four; less is noise.
MARGIN = 1.05
# A candidate whose first run takes this many times as long as another's is not timed further. It does not come to that
# where a sixteenth of the batch takes longer: MLX's naive loops on a CPU would need minutes.
HOPELESS = 5.0
GLIMPSE = 16
# Seconds that a run must take to be timed by itself. Shorter ones are timed several at once, as in a network, where
# nobody waits for each layer.
SHORTEST = 0.005
MOST_AT_ONCE = 10
ROUNDS = (5, 25)


@dataclass(frozen=True)
class Tuned:
    """What was measured for one case.

    Attributes:
        case: the convolution.
        default: the strategy of the table of defaults.
        chosen: the fastest strategy; the default where none is faster by a margin.
        milliseconds: of each strategy that computes the right thing, the median. In training, of output and gradients.
        left_out: why each other strategy was not timed.
    """

    case: Case
    default: str
    chosen: str
    milliseconds: dict[str, float]
    left_out: dict[str, str]

    @property
    def measurement(self) -> Measurement | None:
        """What to keep; None where not even the default computes the right thing."""
        return Measurement(self.chosen, self.milliseconds) if self.chosen in self.milliseconds else None


def find_cases(model: nn.Module, x: mx.array) -> dict[Case, int]:
    """The convolutions with `strategy="auto"` of a model for an input, and how many layers have each.

    Args:
        model: any module that holds CondConv layers; called in evaluation mode, and put back.
        x: its input (N, ...). No value of it is used.

    Returns:
        Cases of inference, in the order in which they come.
    """
    was_training = model.training
    try:
        model.eval()
        with recording() as cases:
            model(x)  # lazy: nothing is computed
    finally:
        model.train(was_training)
    return dict(Counter(cases))


def tune(cases: Iterable[Case], seconds: float = 1.0) -> Iterator[Tuned]:
    """Measure each case on the default device, in inference and in training, one `Tuned` after the other.

    Args:
        cases: as from `find_cases`.
        seconds: how long to time the strategies of a case together, at least five rounds.
    """
    for case in cases:
        arrays, cotangent = _problem(case)
        wanted = _plain_loop(case, arrays, cotangent)
        for training in (False, True):
            yield _measure(case._replace(training=training), arrays, cotangent, wanted, seconds)


def _measure(
    case: Case, arrays: list[mx.array], cotangent: mx.array, wanted: list[np.ndarray], seconds: float
) -> Tuned:
    usual = default(case, backend())
    arrays, cotangent = [array.astype(DTYPES[case.dtype]) for array in arrays], cotangent.astype(DTYPES[case.dtype])
    runs: dict[str, Run] = {}
    left_out: dict[str, str] = {}
    fastest = float("inf")
    # The default first: the others are hopeless by its measure.
    for strategy in sorted(candidates(case), key=lambda name: name != usual):
        reason = _why_not(case, strategy, arrays, cotangent, wanted, fastest)
        if reason:
            left_out[strategy] = reason
        else:
            runs[strategy] = _run(case, strategy, arrays, cotangent)
            fastest = min(fastest, _seconds(runs[strategy]))
    taken = _alternate(runs, seconds)
    milliseconds = {name: round(1e3 * statistics.median(times), 4) for name, times in taken.items()}
    return Tuned(case, usual, _fastest(taken, usual), milliseconds, left_out)


def _why_not(
    case: Case,
    strategy: str,
    arrays: list[mx.array],
    cotangent: mx.array,
    wanted: list[np.ndarray],
    fastest: float,
) -> str | None:
    """Why to leave a strategy out; None if it computes the right thing, in good time."""
    try:
        if _is_hopeless(case, strategy, arrays, cotangent, fastest):
            return f"slow: over {HOPELESS:.0f} times as long as another"
        got = output_and_gradients(partial(_convolve, case, strategy), arrays, cotangent)
    except Exception as error:  # MLX raises several kinds, and a device need not be able to run everything.
        return f"cannot: {' '.join(str(error).split())}"
    distance, allowed = max(map(relative_error, got, wanted)), tolerance(case.dtype)
    return f"wrong: relative error {distance:.1e}, allowed {allowed:.0e}" if distance > allowed else None


def _fastest(taken: dict[str, list[float]], usual: str) -> str:
    """The strategy to keep: `usual` if nothing clearly beats it, or nothing is left."""
    best = min(taken, key=lambda name: statistics.median(taken[name]), default=usual)
    if best == usual or usual not in taken:
        return best
    gains = [one / other for one, other in zip(taken[usual], taken[best], strict=True)]
    return best if statistics.quantiles(gains, n=4)[0] > MARGIN else usual


def _run(case: Case, strategy: str, arrays: list[mx.array], cotangent: mx.array) -> Run:
    """What to time: the output, and in training the gradients too."""
    function = partial(_convolve, case, strategy)
    return partial(mx.vjp, function, arrays, [cotangent]) if case.training else partial(function, *arrays)


def _is_hopeless(case: Case, strategy: str, arrays: list[mx.array], cotangent: mx.array, fastest: float) -> bool:
    """Whether it takes far longer than `fastest` seconds."""
    part = case.x[0] // GLIMPSE
    if part and fastest > SHORTEST:
        x, own, *shared = arrays
        few = _run(case, strategy, [x[:part], own[:part], *shared], cotangent[:part])
        if _first_time(few, fastest) > fastest:
            return True
    return _first_time(_run(case, strategy, arrays, cotangent), HOPELESS * fastest) > HOPELESS * fastest


def _first_time(run: Run, hopeless: float) -> float:
    """Seconds of a run. A GPU compiles its kernels in the first, so what seems hopeless has a second try."""
    first = _seconds(run)
    return min(first, _seconds(run)) if hopeless < first < 1 else first


def _alternate(runs: dict[str, Run], seconds: float) -> dict[str, list[float]]:
    """Seconds of each in every round, taken in turns, so that whatever else the machine does meets all alike."""
    fastest = min(map(_seconds, runs.values()), default=SHORTEST)
    at_once = max(1, min(MOST_AT_ONCE, round(SHORTEST / fastest)))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    least, most = ROUNDS
    start = time.perf_counter()
    for done in range(most if runs else 0):
        if done >= least and time.perf_counter() - start > seconds:
            break
        for name, run in runs.items():
            taken[name].append(_seconds(run, at_once) / at_once)
    return taken


def _seconds(run: Run, times: int = 1) -> float:
    mx.synchronize()
    start = time.perf_counter()
    mx.eval([run() for _ in range(times)])
    return time.perf_counter() - start


def _problem(case: Case) -> tuple[list[mx.array], mx.array]:
    """Numbers to compute with: x, routing weights and experts, or x and kernels; and the output's cotangent.

    In float32, but rounded to the dtype of the case, so that all start from the same.
    """
    keys = iter(mx.random.split(mx.random.key(0), 4))
    n = case.x[0]
    # As large as fresh weights are, so that float16 does not overflow.
    scale = (case.kernel[1] * case.kernel[2] * case.kernel[3]) ** -0.5
    arrays = [mx.random.normal(case.x, key=next(keys))]
    if case.experts:
        arrays.append(mx.random.uniform(shape=(n, case.experts), key=next(keys)))
    arrays.append(scale * mx.random.normal((case.experts or n, *case.kernel), key=next(keys)))
    size = case.geometry.output_size(case.x[1:3], case.kernel[1:3])
    arrays.append(mx.random.normal((n, *size, case.kernel[0]), key=next(keys)))
    *arrays, cotangent = (array.astype(DTYPES[case.dtype]).astype(mx.float32) for array in arrays)
    mx.eval(arrays, cotangent)
    return arrays, cotangent


def _convolve(case: Case, strategy: str, *arrays: mx.array) -> mx.array:
    convolve = F.cond_conv2d if case.experts else F.conv2d_per_example
    return convolve(*arrays, strategy=strategy, exportable=not case.training, **case.geometry._asdict())


def _plain_loop(case: Case, arrays: list[mx.array], cotangent: mx.array) -> list[np.ndarray]:
    """Output and gradients, one example after the other, which also keeps the memory small."""

    def one(x: mx.array, *given: mx.array) -> mx.array:
        kernels = mx.tensordot(given[0], given[1], 1) if case.experts else given[0]
        return plain.conv2d_per_example(x, kernels, **case.geometry._asdict())

    x, *others = arrays
    rows: list[list[np.ndarray]] = []
    shared = np.zeros(others[-1].shape, np.float32)
    for n in range(len(x)):
        example = [array[n : n + 1] for array in (x, others[0])] + others[1:]
        got = output_and_gradients(one, example, cotangent[n : n + 1])
        if case.experts:
            shared += got.pop()
        rows.append(got)
    joined = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    return [*joined, shared] if case.experts else joined
