"""Verdicts on a version on probation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_agent.telemetry.judge import Behaviour, hanley_mcneil, judge, wilson
from whimbrel_core.profile.counts import LATENCY_CELLS, OpsCounts, QualityCounts
from whimbrel_core.wire.assignment import Probation


def ops(requests: int, failed: int = 0, cell: int = 5) -> OpsCounts:
    latency = tuple(requests if i == cell else 0 for i in range(LATENCY_CELLS))
    return OpsCounts(requests=requests, failed=failed, latency=latency)


def scored(bins: dict[int, tuple[int, int]]) -> QualityCounts:
    """Return quality counts with (false, true) claims per score bin."""
    scores = [0] * 40
    for index, (false, true) in bins.items():
        scores[2 * index], scores[2 * index + 1] = false, true
    right = sum(false for i, (false, _) in bins.items() if i < 10) + sum(
        true for i, (_, true) in bins.items() if i >= 10
    )
    return QualityCounts(rows=sum(scores), right=right, scores=tuple(scores))


GOOD = scored({2: (60, 10), 17: (10, 60)})
BAD = scored({2: (10, 60), 17: (60, 10)})


def test_nothing_seen_is_pending() -> None:
    assert judge(Probation(), Behaviour()).verdict == "pending"


def test_enough_rows_within_limits_pass() -> None:
    opinion = judge(Probation(rows=200), Behaviour(rows=200, ops=ops(200)))
    assert opinion.verdict == "passed"
    assert opinion.evidence["error_rate"] == 0.0


def test_rows_without_the_labels_asked_for_do_not_pass() -> None:
    probation = Probation(rows=10, labels=200, min_auc=0.6)
    behaviour = Behaviour(rows=500, ops=ops(500), quality=GOOD, binary=True)
    assert judge(probation, behaviour).verdict == "pending"


def test_a_good_auc_passes_and_a_bad_one_fails_long_before_the_rows_are_there() -> None:
    probation = Probation(rows=100_000, labels=100, min_auc=0.6)
    bad = Behaviour(rows=140, ops=ops(140), quality=BAD, binary=True)
    opinion = judge(probation, bad)
    assert opinion.verdict == "failed"
    assert opinion.evidence["auc_upper"] < 0.6
    good = Behaviour(rows=100_000, ops=ops(140), quality=GOOD, binary=True)
    assert judge(probation, good).verdict == "passed"


def test_an_auc_just_below_its_limit_is_not_beyond_doubt() -> None:
    quality = scored({9: (30, 28), 10: (30, 30)})
    behaviour = Behaviour(rows=500, ops=ops(500), quality=quality, binary=True)
    assert judge(Probation(rows=100, min_auc=0.55), behaviour).verdict == "pending"


def test_few_labels_never_fail_a_version() -> None:
    quality = scored({2: (0, 20), 17: (20, 0)})
    behaviour = Behaviour(rows=40, ops=ops(40), quality=quality, binary=True)
    assert judge(Probation(min_auc=0.9), behaviour).verdict == "pending"


def test_accuracy_is_judged_like_auc() -> None:
    behaviour = Behaviour(rows=500, ops=ops(500), quality=BAD)
    assert judge(Probation(min_accuracy=0.6), behaviour).verdict == "failed"


@pytest.mark.parametrize(
    ("requests", "failed", "verdict"),
    [(0, 2, "pending"), (0, 5, "failed"), (1000, 3, "passed"), (900, 100, "failed")],
)
def test_failures_need_evidence(requests: int, failed: int, verdict: str) -> None:
    behaviour = Behaviour(rows=requests, ops=ops(requests, failed))
    assert judge(Probation(max_error_rate=0.02), behaviour).verdict == verdict


def test_latency_is_judged_by_the_lower_end_of_its_cell() -> None:
    slow = Behaviour(rows=500, ops=ops(500, cell=12))  # 2048 to 4096 µs
    assert judge(Probation(max_latency_us=2000), slow).verdict == "failed"
    assert judge(Probation(max_latency_us=2100), slow).verdict == "passed"


def test_outputs_that_moved_fail() -> None:
    moved = Behaviour(rows=500, ops=ops(500), output_psi=0.6)
    assert judge(Probation(max_output_psi=0.25), moved).verdict == "failed"
    early = Behaviour(rows=100, ops=ops(100), output_psi=0.6)
    assert judge(Probation(max_output_psi=0.25), early).verdict == "pending"


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilsons_interval_holds_the_rate(successes: int, total: int) -> None:
    successes = min(successes, total)
    lower, upper = wilson(successes, total)
    assert 0 <= lower <= successes / total + 1e-12
    assert successes / total - 1e-12 <= upper <= 1


@given(st.floats(0, 1), st.integers(0, 1000), st.integers(0, 1000))
def test_the_standard_error_of_an_auc_is_positive(auc: float, true: int, false: int) -> None:
    assert 0 < hanley_mcneil(auc, true, false) <= 1
