"""The rules of evidently and whylogs, as benchmarks apply them, against SciPy on raw rows.

That the libraries say the same is what ``python -m benchmarks.peers.rules`` shows.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.peers.rules import (
    EvidentlyRule,
    WhylogsRule,
    evidently_dataset,
    one_sample_limit,
    two_sample_limit,
)

RNG = np.random.default_rng(5)
WINDOWS = RNG.normal(0.1, 1, (6, 130))


def test_a_large_reference_is_measured_by_wasserstein() -> None:
    reference = RNG.normal(size=1700)
    rule = EvidentlyRule(reference)
    expected = [stats.wasserstein_distance(reference, one) / reference.std() for one in WINDOWS]
    assert rule.distances(WINDOWS) == pytest.approx(expected, abs=1e-12)
    assert rule.drifted(WINDOWS).tolist() == [distance >= 0.1 for distance in expected]


def test_a_small_reference_is_tested_by_kolmogorov_and_smirnov() -> None:
    reference = RNG.normal(size=400)
    rule = EvidentlyRule(reference)
    tests = [stats.ks_2samp(reference, one) for one in WINDOWS]
    assert rule.distances(WINDOWS) == pytest.approx([test.statistic for test in tests], abs=1e-12)
    assert rule.drifted(WINDOWS).tolist() == [test.pvalue <= 0.05 for test in tests]


def test_whylogs_looks_at_a_hundred_quantiles_of_either_side() -> None:
    reference = np.arange(200.0)
    rule = WhylogsRule(reference)
    assert rule.distances(np.arange(200.0)[np.newaxis] + 50) == pytest.approx([0.25])
    assert rule.distances(np.arange(200.0)[np.newaxis]).tolist() == [0.0]
    limit = one_sample_limit(200, 200)
    assert stats.kstwo.sf(limit, 100) == pytest.approx(0.05)
    moved = np.arange(200.0)[np.newaxis] + np.array([[20.0], [40.0]])
    assert rule.drifted(moved).tolist() == [limit < 0.1, limit < 0.2] == [False, True]


def test_the_limit_of_d_is_the_least_that_scipy_calls_significant() -> None:
    steps = two_sample_limit(60, 40) * 120  # D is a multiple of 1/120
    assert steps == pytest.approx(round(steps))
    assert _p_value(round(steps), 60, 40) <= 0.05 < _p_value(round(steps) - 1, 60, 40)


def test_a_data_set_has_drifted_when_half_of_its_columns_have() -> None:
    drifted = np.array([[True, True, False, False], [True, False, False, False]])
    assert evidently_dataset(drifted).tolist() == [True, False]


def _p_value(steps: int, n: int, m: int) -> float:
    """Return the p value of D = steps / lcm(n, m)."""
    for i in range(n + 1):
        for j in range(m + 1):
            if abs(i * 2 - j * 3) == steps:
                return float(stats.ks_2samp(np.arange(n) >= i, np.arange(m) >= j).pvalue)
    raise AssertionError(steps)
