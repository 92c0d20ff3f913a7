"""What was measured is found again on the same device, and nothing else is taken for it."""

import json
from pathlib import Path

import pytest
from bench_material import SMALL

from condconv_mlx.bench import kept
from condconv_mlx.bench.experts import ExpertRow
from condconv_mlx.functional.tuned import Place

ROWS = [ExpertRow(SMALL[0], False, n, {"kernels": 1.0, "outputs": 2.0 * n, "static": 0.5}) for n in (1, 2)]
TRAINED = [ExpertRow(SMALL[0], True, 4, {"kernels": 3.0, "outputs": 4.0, "static": 2.5})]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONDCONV_MLX_CACHE", str(tmp_path))
    return tmp_path


def test_rows_are_found_again_and_replaced() -> None:
    assert kept.load() == {}
    kept.keep(ROWS)
    done = kept.keep(TRAINED)
    assert done.rows == tuple(TRAINED) and done.date.startswith("20")
    assert kept.load() == {(SMALL[0], False): kept.Measured(kept.load()[SMALL[0], False].date, tuple(ROWS))} | {
        (SMALL[0], True): done
    }
    kept.keep(ROWS[:1])
    assert kept.load()[SMALL[0], False].rows == (ROWS[0],)
    assert kept.load()[SMALL[0], True] == done


def test_another_device_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kept.keep(ROWS)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(kept, "place", lambda: Place("a Mac", "0.32.4"))
        assert kept.load() == {}
        kept.keep(TRAINED)
        assert list(kept.load()) == [(SMALL[0], True)]
    assert list(kept.load()) == [(SMALL[0], False)]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("shape"),
        lambda record: record["shape"].update(size="large", colour=1),
        lambda record: record["milliseconds"].clear(),
        lambda record: record["milliseconds"][0][1].pop("static"),
        lambda record: record["milliseconds"][0][1].update(static=0),
        lambda record: record["milliseconds"][0][1].update(static=float("nan")),
        lambda record: record.update(place=["a Mac"]),
        lambda record: record.update(backward=[]),
    ],
)
def test_a_damaged_file_counts_as_none(change) -> None:  # type: ignore[no-untyped-def]
    kept.keep(ROWS)
    records = json.loads(kept.path().read_text())
    change(records[0])
    for text in (json.dumps(records), "{", "3"):
        kept.path().write_text(text)
        assert kept.load() == {}
    kept.keep(ROWS)
    assert len(kept.load()) == 1
