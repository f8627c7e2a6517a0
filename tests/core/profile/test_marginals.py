"""Marginal likelihoods from running sums are those of the full covariance matrices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from whimbrel_core.profile.watching import marginals

Floats = NDArray[np.float64]
PHI = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0]


def log_m(w: Floats, x: Floats, v: Floats) -> float:
    """Integrate mean and scale out of N(Xβ, s²V) the long way: generalised least squares."""
    inverse = np.linalg.inv(v)
    normal = x.T @ inverse @ x
    rest = w - x @ np.linalg.solve(normal, x.T @ inverse @ w)
    n, p = x.shape
    determinants = np.linalg.slogdet(v)[1] + np.linalg.slogdet(normal)[1]
    return float(-determinants / 2 - (n - p) / 2 * np.log(rest @ inverse @ rest))


def designs(n: int) -> tuple[Floats, Floats]:
    i = np.arange(1.0, n + 1)
    return np.ones((n, 1)), np.stack([np.ones(n), i - i.mean()], axis=1)


@pytest.fixture
def y() -> Floats:
    return np.cumsum(np.random.default_rng(3).normal(size=40)) + np.arange(40) * 0.2


def test_without_a_change_every_explanation_has_the_likelihood_of_least_squares(y: Floats) -> None:
    total = marginals.whiten(marginals.pairs(y, 0).sum(axis=1))
    constant, trend = designs(39)
    want = [log_m(y[1:] - phi * y[:-1], constant, np.eye(39)) for phi in PHI]
    want += [log_m(y[1:] - phi * y[:-1], trend, np.eye(39)) for phi in PHI[:10]]
    assert marginals.unchanged(total, 1e-30) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("before", [5, 20, 36])
def test_a_change_has_the_likelihood_of_its_covariance_matrix(y: Floats, before: int) -> None:
    sums = np.cumsum(marginals.pairs(y, 0), axis=1)
    total, upto = marginals.whiten(sums[:, -1]), marginals.whiten(sums[:, [before - 1]])
    constant, trend = designs(39)
    after = np.arange(39) >= before
    step, kink = after.astype(float), np.maximum(np.arange(39) - before + 1, 0) / 4
    terms = []
    for number, phi in enumerate(PHI):
        w = y[1:] - phi * y[:-1]
        for tau, kappa in [(1, 1), (4, 1), (2, 2), (4, 4), (1, 0.5)]:
            v = np.diag(np.where(after, kappa**2, 1.0)) + tau**2 * np.outer(step, step)
            terms.append(log_m(w, constant, v))
        if number < 10:
            for tau, u in [(1, step), (4, step), (1, kink)]:
                terms.append(log_m(w, trend, np.eye(39) + tau**2 * np.outer(u, u)))
    want = np.logaddexp.reduce(terms) - np.log(len(terms))
    got = marginals.changed(total, upto, 1e-30, np.zeros(marginals.EXPLANATIONS))
    assert got == pytest.approx([want], rel=1e-9)


def test_a_forecast_is_that_of_least_squares(y: Floats) -> None:
    total = marginals.whiten(marginals.pairs(y, 0).sum(axis=1))
    constant, trend = designs(39)
    for explanation, phi, x, new in [
        (5, 0.5, constant, np.ones(1)),
        (11, 1.0, constant, np.ones(1)),
        (12 + 5, 0.5, trend, np.array([1.0, 20.0])),
    ]:
        w = y[1:] - phi * y[:-1]
        beta, rest, _, _ = np.linalg.lstsq(x, w, rcond=None)
        variance = rest[0] / (39 - x.shape[1]) * (1 + new @ np.linalg.inv(x.T @ x) @ new)
        want = (new @ beta + phi * y[-1], variance)
        assert marginals.forecast(total, explanation, y[-1]) == pytest.approx(want, rel=1e-9)
