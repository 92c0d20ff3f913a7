"""`strategy="auto"`: defaults by device, what was measured, and a file that may be anything."""

import json
import threading
import warnings
from itertools import product
from pathlib import Path

import mlx.core as mx
import pytest

from condconv_mlx.functional import STRATEGIES, choice, cond_conv2d, conditional, conv2d_per_example, tuned
from condconv_mlx.functional.defaults import Case, candidates, default
from condconv_mlx.functional.geometry import Geometry
from condconv_mlx.functional.tuned import Measurement, Place

ONE = ((1, 1), (1, 1))
PLAIN = Geometry((1, 1), ONE, (1, 1))
CASE = Case((2, 6, 5, 4), (6, 3, 3, 4), 3, PLAIN, "float32", True)


def case(channels=(64, 64), kernel=(3, 3), n=8, stride=(1, 1), dilation=(1, 1), groups=1):
    into, out = channels
    geometry = Geometry(stride, ONE, dilation, groups)
    return Case((n, 14, 14, into), (out, *kernel, into // groups), 8, geometry, "float32", True)


@pytest.mark.parametrize(
    ("what", "cpu", "metal", "cuda"),
    [
        (case(), "rows", "fold", "unfold"),
        (case((3, 16)), "unfold", "fold", "unfold"),
        (case((20, 16)), "rows", "unfold", "unfold"),
        (case((32, 24)), "rows", "unfold", "unfold"),
        (case((64, 128)), "unfold", "fold", "unfold"),
        (case((64, 64), (1, 5)), "unfold", "fold", "unfold"),
        (case((40, 24), groups=10), "unfold", "fold", "unfold"),
        (case(kernel=(1, 1)), "unfold", "unfold", "unfold"),
        (case((32, 32), groups=32), "taps", "fold", "shift"),
        (case((32, 32), (1, 1), groups=32), "taps", "fold", "shift"),
        (case((20, 20), n=1, groups=20), "taps", "shift", "shift"),
        (case((32, 32), (9, 9), groups=32), "taps", "shift", "shift"),
        (case((32, 32), stride=(1, 3), groups=32), "taps", "shift", "shift"),
        (case((32, 32), dilation=(2, 2), groups=32), "taps", "shift", "shift"),
        (case((32, 32), n=512, groups=32), "shift", "fold", "shift"),
        (case((32, 64), groups=32), "unfold", "fold", "unfold"),
    ],
)
def test_defaults_by_device_and_shape(what, cpu, metal, cuda):
    assert [default(what, backend) for backend in ("cpu", "metal", "cuda")] == [cpu, metal, cuda]


@pytest.mark.parametrize(
    ("size", "n", "experts", "groups", "wanted"),
    [
        (4, 128, 4, 1, "outputs"),
        (4, 128, 8, 1, "unfold"),
        (4, 1, 4, 1, "unfold"),
        (4, 128, None, 1, "unfold"),
        (4, 128, 4, 2, "unfold"),
        (1, 1, 8, 1, "outputs"),
    ],
)
def test_on_a_cpu_small_maps_of_few_experts_mix_outputs(size, n, experts, groups, wanted):
    small = Case((n, size, size, 8), (8, 3, 3, 8 // groups), experts, PLAIN._replace(groups=groups), "float32", True)
    assert default(small, "cpu") == wanted
    assert default(small, "cuda") == "unfold"


def test_every_default_is_a_candidate():
    for into, out, size, groups in product((3, 16, 20), (3, 16, 20, 40), (1, 3), (1, 2, 3, 16, 20)):
        if into % groups or out % groups:
            continue
        for backend in ("cpu", "metal", "cuda"):
            assert default(case((into, out), (size, size), groups=groups), backend) in STRATEGIES


def test_outputs_are_mixed_only_where_there_are_experts():
    assert "outputs" in candidates(CASE)
    assert candidates(CASE._replace(experts=None)) == list(STRATEGIES)


@pytest.fixture
def ran(tuning_file, monkeypatch) -> list[str]:
    """Names of the strategies that compute something from here on."""
    names: list[str] = []

    def watched(name, strategy):
        def run(*arguments):
            names.append(name)
            return strategy(*arguments)

        return run

    for name, strategy in list(STRATEGIES.items()):
        monkeypatch.setitem(STRATEGIES, name, watched(name, strategy))
    monkeypatch.setattr(conditional, "_mix_outputs", watched("outputs", conditional._mix_outputs))
    return names


def convolve(what: Case, **options) -> mx.array:
    """The call that has this case."""
    dtype = getattr(mx, what.dtype)
    x, arguments = mx.zeros(what.x, dtype=dtype), what.geometry._asdict() | {"exportable": not what.training} | options
    if what.experts is None:
        return conv2d_per_example(x, mx.zeros((what.x[0], *what.kernel), dtype=dtype), **arguments)
    routing_weights = mx.zeros((what.x[0], what.experts), dtype=dtype)
    return cond_conv2d(x, routing_weights, mx.zeros((what.experts, *what.kernel), dtype=dtype), **arguments)


def keep(what: Case, strategy: str) -> None:
    tuned.keep({what: Measurement(strategy, {strategy: 1.0})})


@pytest.mark.parametrize("backend", ["cpu", "metal", "cuda"])
def test_unmeasured_the_default_of_the_device_serves(ran, monkeypatch, backend):
    monkeypatch.setattr(choice, "backend", lambda: backend)
    what = case((16, 16), n=2)
    convolve(what)
    convolve(what._replace(experts=None))
    assert ran == [default(what, backend)] * 2


@pytest.mark.parametrize("experts", [3, None])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("strategy", ["loop", "fold"])
def test_what_was_measured_serves(ran, experts, training, strategy):
    what = CASE._replace(experts=experts, training=training)
    convolve(what)
    keep(what, strategy)
    convolve(what)
    assert ran == [default(what, "cpu"), strategy]


def test_mixing_outputs_can_be_what_serves(ran):
    keep(CASE, "outputs")
    convolve(CASE)
    assert ran[0] == "outputs"


@pytest.mark.parametrize(
    "other",
    [
        CASE._replace(x=(3, 6, 5, 4)),
        CASE._replace(x=(2, 5, 6, 4)),
        CASE._replace(kernel=(5, 3, 3, 4)),
        CASE._replace(experts=4),
        CASE._replace(experts=None),
        CASE._replace(geometry=PLAIN._replace(stride=(2, 1))),
        CASE._replace(geometry=PLAIN._replace(padding=((1, 0), (1, 1)))),
        CASE._replace(geometry=PLAIN._replace(dilation=(1, 2))),
        CASE._replace(kernel=(6, 3, 3, 2), geometry=PLAIN._replace(groups=2)),
        CASE._replace(dtype="float16"),
        CASE._replace(training=False),
    ],
)
def test_nothing_crosses_over_to_another_case(ran, other):
    keep(CASE, "loop")
    convolve(other)
    assert "loop" not in ran
    convolve(CASE)
    assert ran[-1] == "loop"


@pytest.mark.parametrize("field", Place._fields)
def test_nothing_crosses_over_to_another_device_or_version(ran, monkeypatch, field):
    here = tuned.place()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(tuned, "place", lambda: here._replace(**{field: "another"}))
        keep(CASE, "loop")
    convolve(CASE)
    assert "loop" not in ran
    keep(CASE, "fold")
    assert {where for where, _ in tuned.read()} == {here, here._replace(**{field: "another"})}


def test_a_strategy_that_is_asked_for_is_not_chosen(ran):
    keep(CASE, "loop")
    with choice.recording() as cases:
        convolve(CASE, strategy="fold")
        convolve(CASE)
    assert ran == ["fold", "loop"]
    assert cases == [CASE]


def test_the_file_is_read_once(ran, monkeypatch):
    reads = []
    right = tuned.read
    monkeypatch.setattr(tuned, "read", lambda: reads.append(1) or right())
    for _ in range(3):
        convolve(CASE)
        convolve(CASE._replace(training=False))
    assert len(reads) == 1


def test_what_was_kept_comes_back(tuning_file):
    measured = Measurement("fold", {"unfold": 1.5, "fold": 0.25})
    tuned.keep({CASE: measured})
    tuned.keep({CASE._replace(experts=None, training=False): measured})
    tuned.keep({CASE: measured._replace(strategy="unfold")})
    assert tuned.read() == {
        (tuned.place(), CASE): measured._replace(strategy="unfold"),
        (tuned.place(), CASE._replace(experts=None, training=False)): measured,
    }
    assert [path.name for path in tuning_file.parent.iterdir()] == ["tuning.json"]


def damaged(good: bytes) -> dict[str, bytes]:
    content = json.loads(good)
    (record,) = content["measured"]

    def written(**changes) -> bytes:
        return json.dumps(content | {"measured": [record | changes]}).encode()

    return {
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "binary": bytes(range(256)),
        "deep": b"[" * 100_000,
        "list": b"[]",
        "number": b"1",
        "foreign": b'{"theme": "dark"}',
        "newer": good.replace(b'"format": 1', b'"format": 2'),
        "no records": json.dumps(content | {"measured": {"a": 1}}).encode(),
        "no shape": written(x=None),
        "list in shape": written(x=[[1], 2, 3, 4]),
        "flat padding": written(padding=[1, 1]),
        "three strides": written(stride=[1, 1, 1]),
        "no times": written(milliseconds=3),
        "unknown strategy": written(strategy="magic"),
        "outputs without experts": written(strategy="outputs", experts=None),
    }


KINDS = sorted(damaged(b'{"format": 1, "measured": [{}]}'))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_set_aside_and_all_goes_on(ran, tuning_file, kind):
    keep(CASE, "loop")
    content = damaged(tuning_file.read_bytes())[kind]
    tuning_file.write_bytes(content)
    tuned.strategies.cache_clear()
    with pytest.warns(UserWarning, match="tuning.json.damaged"):
        convolve(CASE)
    assert ran == ["unfold"]
    assert not tuning_file.exists()
    assert tuning_file.with_name("tuning.json.damaged").read_bytes() == content
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convolve(CASE)
        keep(CASE, "fold")
        convolve(CASE)
    assert ran == ["unfold", "unfold", "fold"]


def test_what_was_set_aside_before_stays(tuning_file):
    tuning_file.parent.mkdir()
    for text in ("one", "two", "three"):
        tuning_file.write_text(text)
        with pytest.warns(UserWarning):
            tuned.read()
    kept = {path.name: path.read_text() for path in tuning_file.parent.iterdir()}
    assert sorted(kept.values()) == ["one", "three", "two"]
    assert kept["tuning.json.damaged"] == "one"


def test_what_was_measured_before_the_damage_was_found_is_kept(tuning_file):
    tuning_file.parent.mkdir()
    tuning_file.write_text("{")
    with pytest.warns(UserWarning):
        keep(CASE, "loop")
    assert [measured.strategy for measured in tuned.read().values()] == ["loop"]


def test_a_file_that_cannot_be_read_or_moved_is_ignored(ran, tuning_file, monkeypatch):
    tuning_file.mkdir(parents=True)  # a folder of that name: no bytes to read

    def refuses(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuses)
    with pytest.warns(UserWarning, match="ignored"):
        convolve(CASE)
    assert ran == ["unfold"]


@pytest.mark.parametrize("folder", ["/dev/null", "~nobody-of-that-name/cache"])
def test_no_folder_is_no_matter(ran, monkeypatch, folder):
    monkeypatch.setenv("CONDCONV_MLX_CACHE", folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convolve(CASE)
    assert ran == ["unfold"]


def test_several_may_write_at_once(tuning_file):
    cases = [CASE._replace(experts=experts) for experts in range(1, 25)]
    threads = [threading.Thread(target=keep, args=(what, "loop")) for what in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {what for _, what in tuned.read()} == set(cases)


def test_clear_forgets_this_device_alone(ran, monkeypatch):
    here = tuned.place()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(tuned, "place", lambda: here._replace(device="another"))
        keep(CASE, "loop")
        elsewhere.setattr(tuned, "place", lambda: here._replace(mlx="older"))
        keep(CASE, "loop")
    keep(CASE, "loop")
    assert tuned.clear() == 2
    assert [where.device for where, _ in tuned.read()] == ["another"]
    convolve(CASE)
    assert ran == ["unfold"]
    assert tuned.clear() == 0
