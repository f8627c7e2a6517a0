"""A ratio expects no more than one while nothing changes, and no window counts for too much."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.profile.watching.ratios import Limits, Sizes, step
from whimbrel_core.profile.watching.streams import Numbers, Sight, Times
from whimbrel_core.profile.watching.warmup import learn, settle, variance_of_mean

SIZES = Sizes(*(np.full(1, size) for size in (0.05, 0.3, 0.5)))
LIMITS = Limits.of(16.5, 9)
NEXT = Times(np.array([50.0]), np.array([1.0]))
SORTS = np.array([0])


def settled(worth: float = 52.0, between: float = 0.0025, correlation: float = 0.5) -> Numbers:
    """Return the state of one stream after its warm-up, which shows no change."""
    values = dict.fromkeys(Numbers._fields, 0.0) | {
        "worth": worth,
        "between": between,
        "lagged": correlation * between,
        "drawn": 0.0002,
        "doubt": 0.01,
        "age": 1.0,
        "up": 1.0,
        "down": 1.0,
        "jump": 1.0,
    }
    return Numbers(*(np.full((1, 1), value) for value in values.values()))


def spread_of(numbers: Numbers, variance: float) -> float:
    correlation = float(numbers.lagged[0, 0] / numbers.between[0, 0])
    unknown = correlation**2 * numbers.drawn + numbers.between * (1 - correlation**2)
    return float(unknown[0, 0]) + variance


def after(numbers: Numbers, values: np.ndarray, variance: float = 1 / 3600) -> Numbers:
    """Return the states after each of some values, (N, 1) each."""
    n = len(values)
    many = Numbers(*(np.repeat(one, n, axis=0) for one in numbers))
    shape = (n, 1)
    sight = Sight(values.reshape(shape), np.full(shape, variance), np.full(shape, True))
    times = Times(np.full(n, 50.0), np.ones(n))
    return step(many, SIZES, LIMITS, sight, times)


@pytest.mark.parametrize("worth", [5.0, 20.0, 100.0])
@pytest.mark.parametrize("off", [-0.05, 0.0, 0.05])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_sums_grow_by_one_at_most_on_average_while_nothing_changes(
    worth: float, off: float, correlation: float
) -> None:
    """Over the t density that a window has when the variance is known from ``worth`` windows."""
    numbers = settled(worth, correlation=correlation)
    scale = math.sqrt(spread_of(numbers, 1 / 3600))
    z = np.linspace(-60, 60, 6_001)
    density = (1 + z**2 / worth) ** (-(worth + 1) / 2)
    density /= density.sum()
    # A lasting shift that is to be ignored has been there before; the filter has followed it.
    left = (1 - correlation) / (1 - correlation * 0.1) if off else 1.0
    grown = after(numbers, off * left + scale * z)
    for name in ("up", "down", "jump"):
        before = float(getattr(numbers, name)[0, 0])
        assert density @ getattr(grown, name)[:, 0] <= before + 1 + 1e-3, name


@given(st.floats(-50, 50), st.floats(0, 0.97), st.floats(1e-6, 4), st.floats(3, 200))
def test_no_single_window_is_an_alarm_and_every_number_stays_finite(
    value: float, correlation: float, between: float, worth: float
) -> None:
    numbers = settled(worth, between, correlation)
    found = after(numbers, np.array([value]))
    total = float((found.up + found.down + found.jump)[0, 0])
    assert math.log(total / 9) < 16.5
    assert all(np.isfinite(one).all() for one in found)
    assert found.between[0, 0] > 0


def test_a_shift_comes_whole_in_its_first_window_and_in_part_later() -> None:
    numbers, grown = settled(), []
    numbers = numbers._replace(**dict.fromkeys(("up", "down", "jump"), np.full((1, 1), 1e-3)))
    for _ in range(3):
        found = after(numbers, np.array([0.3]))
        grown.append(float(np.log(found.jump / np.maximum(numbers.jump, 1))[0, 0]))
        numbers = found
    assert grown[0] > grown[1] > 1
    assert numbers.level[0, 0] == pytest.approx(0.3, abs=0.02)
    assert numbers.began[0, 0] == pytest.approx(50.0, abs=0.5)


def test_an_odd_window_is_taken_back_by_the_next() -> None:
    odd = after(settled(), np.array([2.0]))
    calm = after(odd, np.array([0.0]))
    assert float(odd.jump[0, 0]) > 1e4
    assert float(calm.jump[0, 0]) < 10


def test_what_is_not_known_changes_nothing() -> None:
    numbers = settled()
    nothing = Sight(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1), bool))
    same = step(numbers, SIZES, LIMITS, nothing, NEXT)
    assert all((now == was).all() for now, was in zip(same, numbers, strict=True))


def taught(x: np.ndarray, variance: float) -> Numbers:
    """Return what windows (n, K) of one device teach."""
    shape = (1, x.shape[1])
    numbers = Numbers(*(np.zeros(shape) for _ in Numbers._fields))
    for row in x:
        learn(numbers, Sight(row[np.newaxis], np.full(shape, variance), np.full(shape, True)))
    return settle(numbers, SORTS)


@pytest.mark.parametrize("n", [12, 48, 200])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_a_warm_up_finds_how_windows_vary_and_hang_together(n: int, correlation: float) -> None:
    rng = np.random.default_rng(8)
    features, sd, variance = 400, 0.08, 1 / 3600
    walk = rng.normal(size=features)
    x = np.empty((n, features))
    for t in range(n):
        walk = correlation * walk + math.sqrt(1 - correlation**2) * rng.normal(size=features)
        x[t] = sd * walk + math.sqrt(variance) * rng.normal(size=features)
    numbers = taught(x, variance)
    found = numbers.lagged / numbers.between
    assert found.mean() == pytest.approx(correlation, abs=0.03 if n >= 48 else 0.16)
    assert np.sqrt(numbers.between.mean()) == pytest.approx(sd, rel=0.1 if n >= 48 else 0.25)
    # The true mean is 0, and the doubt one and a half standard errors, which a short one cannot tell.
    assert (np.abs(numbers.mean) <= numbers.doubt).mean() >= (0.75 if n >= 48 else 0.65)


def test_the_variance_of_a_mean_is_that_of_an_autoregression() -> None:
    n, r = 30, 0.7
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    exact = (r**lags).sum() / n**2
    assert variance_of_mean(np.array([r]), np.array([float(n)]))[0] == pytest.approx(exact)
