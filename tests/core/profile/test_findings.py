"""What is wrong with data is told by counts alone, and only when it is more than chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from tests.core.profile.samples import SMALL, flight_baseline, flight_rows, flight_window
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.drift.findings import Finding, Inspector, findings
from whimbrel_core.profile.drift.fisher import more_than_usual
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.window import empty, merge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = dict[str, NDArray[Any]]


def found(rows: Rows, **counts: int) -> tuple[Finding, ...]:
    accumulator = Accumulator(flight_baseline())
    accumulator.update(rows)
    for _ in range(counts.get("answered", 0)):
        accumulator.count_request(10.0)
    for _ in range(counts.get("mistyped", 0)):
        accumulator.count_rejected(mistyped=True)
    window = accumulator.window(0, 1)
    told = findings(window, flight_baseline())
    assert told == findings(flatten(window), flight_baseline())
    return told


def spoil(column: int, values: object, rows: int = 3600) -> Rows:
    tensors = flight_rows(3, rows)
    tensors["x"][:, column] = values
    return tensors


def test_rows_like_the_reference_have_no_finding() -> None:
    for seed in range(20):
        assert findings(flight_window(seed, 1000), flight_baseline()) == ()


def test_a_sensor_that_hangs_is_stuck() -> None:
    tensors = flight_rows(3, 3600)
    tensors["x"][200:, 0] = 12.5
    [one] = found(tensors)
    assert (one.feature, one.kind, one.level) == ("temp", "stuck", "severe")
    assert one.message == "temp has not changed for 3,399 of 3,600 rows"
    assert one.usual < 0.01


def test_a_sensor_that_hung_all_along_is_constant() -> None:
    [one] = found(spoil(0, 12.5))
    assert (one.feature, one.kind, one.share, one.level) == ("temp", "constant", 1.0, "severe")
    assert one.message == "temp was 12.5 in all 3,600 rows"


def test_an_hour_that_stays_the_same_is_a_notice_at_most() -> None:
    tensors = flight_rows(3, 3600)
    tensors["hour"][:] = 7
    [one] = found(tensors)
    assert (one.feature, one.kind, one.level) == ("hour", "constant", "notice")


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (np.nan, "missing", "precip is missing in 552 of 3,600 rows (15.3%, usually in 0.9%)"),
        (np.inf, "infinite", "precip is infinite in 512 of 3,600 rows (14.2%)"),
        (-np.inf, "infinite", "precip is infinite in 512 of 3,600 rows (14.2%)"),
        (9e9, "out_of_range", "precip is outside the reference's range in 512 of 3,600 rows (14.2%)"),
        (-9e9, "out_of_range", "precip is outside the reference's range in 512 of 3,600 rows (14.2%)"),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_reference_row_has_is_told_with_its_share(
    value: float, kind: str, message: str
) -> None:
    tensors = flight_rows(3, 3600)
    tensors["x"][::7, 1] = np.where(np.arange(515) < 512, value, 1.0)
    told = [one for one in found(tensors) if one.feature == "precip"]
    assert [(one.kind, one.level, one.message) for one in told] == [(kind, "warn", message)]


def test_words_and_values_out_of_the_profile_are_unknown() -> None:
    tensors = flight_rows(3, 1000, unseen=0.3)
    tensors["hour"][:40] = 3
    carrier, hour = found(tensors)
    assert (carrier.feature, carrier.kind, carrier.level) == ("carrier", "unknown", "severe")
    assert (
        carrier.message
        == "carrier has a word that is not in its profile in 300 of 1,000 rows (30.0%)"
    )
    assert (hour.feature, hour.kind, hour.level) == ("hour", "unknown", "notice")


def test_rows_that_are_sent_twice_are_duplicates() -> None:
    twice = {name: np.repeat(tensor, 2, axis=0) for name, tensor in flight_rows(3, 1800).items()}
    [one] = found(twice)
    assert (one.feature, one.kind, one.share, one.level) == ("", "duplicates", 0.5, "severe")
    assert one.message == "1,800 of 3,600 rows are the same as the row before"


def test_requests_of_wrong_types_are_told_even_when_no_row_was_right() -> None:
    [one] = found(flight_rows(3, 0), answered=80, mistyped=40)
    assert (one.feature, one.kind, one.level) == ("", "mistyped", "severe")
    assert one.message == "40 of 120 requests had a wrong type or shape"


def test_too_few_rows_and_too_little_of_it_are_no_finding() -> None:
    assert found(spoil(0, np.nan, rows=99)) == ()
    tensors = flight_rows(3, 3600)
    tensors["x"][::70, 0] = np.inf  # 1.4 %
    assert found(tensors, answered=99, mistyped=1) == ()
    assert findings(empty(flight_baseline().layout, 0, 1), flight_baseline()) == ()


def test_a_share_that_few_rows_may_have_by_chance_is_no_finding() -> None:
    tensors = flight_rows(3, 100, missing=0.0)
    tensors["x"][:4, 0] = np.nan  # 4 % where 1 % is usual: p = .02, of 25 questions
    assert found(tensors) == ()


def test_what_the_reference_does_as_well_is_usual() -> None:
    from whimbrel_core.profile.building.columns import ColumnSpec
    from whimbrel_core.profile.building.reference import build

    values = np.repeat(np.random.default_rng(0).normal(size=100), 50)
    baseline = build([ColumnSpec("x", "input", "x", 0, values)], task="regression")
    accumulator = Accumulator(baseline)
    accumulator.update({"x": np.repeat(np.random.default_rng(1).normal(size=10), 50)})
    assert not [one for one in findings(accumulator.window(0, 1), baseline) if one.kind == "stuck"]


def test_findings_of_merged_windows_are_of_all_their_rows() -> None:
    accumulator = Accumulator(flight_baseline())
    accumulator.update(spoil(0, 12.5))
    both = merge(accumulator.window(0, 1), flight_window(4, 3600))
    assert (
        findings(both, flight_baseline()) == ()
    )  # half of the rows hung: neither stuck nor constant


def test_a_window_of_another_profile_is_refused() -> None:
    with pytest.raises(ProfileError, match="cannot be inspected"):
        Inspector(flight_baseline()).inspect(empty(SMALL, 0, 1))


def test_the_evidence_is_fishers_exact_test() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        rows, usual_rows = (int(n) for n in rng.integers(1, 400, 2))
        count, usual = int(rng.integers(0, rows + 1)), int(rng.integers(0, usual_rows + 1))
        table = [[count, rows - count], [usual, usual_rows - usual]]
        expected = scipy_stats.fisher_exact(table, alternative="greater").pvalue
        assert more_than_usual(count, rows, usual, usual_rows) == pytest.approx(expected, rel=1e-6)


def test_hundreds_of_millions_of_rows_are_judged_by_the_normal_limit() -> None:
    n = 200_000_000
    assert more_than_usual(n // 2, n, n // 2, n) == pytest.approx(0.5)
    assert more_than_usual(n // 2 + 60_000, n, n // 2, n) < 1e-6
    assert more_than_usual(0, n, 0, n) == 1.0


def test_many_windows_at_once_are_told_the_same_of_as_one_by_one() -> None:
    baseline = flight_baseline()
    inspector = Inspector(baseline)
    rng = np.random.default_rng(5)
    windows = []
    for seed in range(120):
        rows = int(rng.choice([0, 1, 40, 150, 900]))
        tensors = flight_rows(seed, max(rows, 1))
        column = int(rng.integers(tensors["x"].shape[1]))
        some = rng.random(max(rows, 1)) < rng.choice([0.0, 0.01, 0.03, 0.3, 0.97, 1.0])
        tensors["x"][some, column] = rng.choice([np.nan, np.inf, 12.5, 1e9, -1e9])
        accumulator = Accumulator(baseline)
        if rows:
            accumulator.update(tensors)
        for _ in range(int(rng.choice([0, 3, 200]))):
            accumulator.count_rejected(mistyped=True)
        windows.append(flatten(accumulator.window(0, 1)))
    told = inspector.inspect_all(windows)
    assert told == [inspector.inspect(window) for window in windows]
    assert 20 < sum(map(bool, told)) < 115, "some have findings, and some have none"
    assert inspector.inspect_all([]) == []
    with pytest.raises(ProfileError):
        inspector.inspect_all([*windows, flatten(empty(SMALL, 0, 1))])
