"""Devices unlike the others: beyond how far the others differ, not beyond sampling error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fleets import Crowd, baseline
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.profile.watching.components import Components
from whimbrel_server.domain import outliers
from whimbrel_server.domain.outliers import PeerPeriod, Standout
from whimbrel_server.domain.totals import Totals

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline


@pytest.fixture(scope="module")
def of() -> Baseline:
    return baseline(4)


def found(of: Baseline, crowd: Crowd, *, rows: int = 3600) -> tuple[Standout, ...]:
    windows = crowd.windows(0, rows=rows)
    totals = {f"d{d}": Totals.of_flat(of.layout, one) for d, one in enumerate(windows)}
    return outliers.standouts(of, Components(of), Thresholds(), totals)


def test_devices_that_differ_as_devices_do_are_no_outliers_however_sure_it_is(
    of: Baseline,
) -> None:
    for seed in range(4):
        # A difference of .2 sd in 40,000 rows is forty standard errors.
        assert found(of, Crowd(of, 200, seed=seed), rows=40_000) == ()


def test_a_device_beyond_the_others_spread_stands_out_by_what_is_odd_about_it(of: Baseline) -> None:
    crowd = Crowd(of, 60, seed=4)
    crowd.offsets[7, 2] = 0.0
    crowd.shifts[7, 2] = 1.6
    (one,) = found(of, crowd)
    assert (one.device, one.feature, one.what, one.level) == ("d7", "f2", "location", "severe")
    assert one.shift == pytest.approx(1.6, abs=0.2)
    assert one.spread == pytest.approx(0.2, abs=0.06)
    assert one.z > 5
    assert one.w1_sd == pytest.approx(abs(one.shift), abs=0.1)


def test_in_a_fleet_whose_devices_differ_much_the_same_distance_is_ordinary(of: Baseline) -> None:
    crowd = Crowd(of, 60, seed=4)
    crowd.offsets *= 3.0
    crowd.offsets[7, 2] = 1.6
    assert found(of, crowd) == ()


def test_many_outliers_do_not_hide_each_other(of: Baseline) -> None:
    crowd = Crowd(of, 60, seed=5)
    crowd.shifts[:10, 1] = 2.5
    assert {one.device for one in found(of, crowd)} == {f"d{d}" for d in range(10)}


def test_two_devices_cannot_be_told_apart_and_few_rows_tell_nothing(of: Baseline) -> None:
    crowd = Crowd(of, 2, seed=6)
    crowd.shifts[0] = 3.0
    assert found(of, crowd) == ()
    crowd = Crowd(of, 30, seed=6)
    crowd.shifts[0] = 3.0
    assert found(of, crowd, rows=40) == ()


def period(n: int, *odd: str, present: tuple[str, ...] = ("a", "b")) -> PeerPeriod:
    some = tuple(
        Standout(
            device=device, feature="f0", what="location", shift=1.0, spread=0.2, z=float(n),
            psi=1.0, w1_sd=1.0, level="severe",
        )
        for device in odd
    )  # fmt: skip
    return PeerPeriod(start_ms=n, devices=present, standouts=some)


def test_an_outlier_is_one_for_some_periods_in_a_row_and_ends_after_some_without() -> None:
    def called(*periods: PeerPeriod, told: bool = False) -> list[str]:
        was = frozenset({("a", "f0")}) if told else frozenset()
        return [one.newest.device for one in outliers.outliers(periods, 2, 3, was)]

    assert called(period(1, "a")) == []
    assert called(period(1, "a"), period(2)) == []
    assert called(period(1, "a"), period(2), period(3, "a")) == []
    assert called(period(1, "a"), period(2, "a")) == ["a"]
    assert called(period(1, "a"), period(2, "a"), period(3), period(4), told=True) == ["a"]
    assert called(period(1, "a"), period(2), period(3), period(4), told=True) == []
    # A period in which the device said nothing is neither the one nor the other.
    silent = period(2, present=("b",))
    assert called(period(1, "a"), silent, period(3, "a")) == ["a"]


def test_an_outlier_tells_since_when_and_its_newest_distance() -> None:
    history = [period(1, "b"), period(2), period(3, "b"), period(4, "b")]
    (one,) = outliers.outliers(history, 2, 3)
    assert (one.since_ms, one.newest.z, one.newest.device) == (3, 4.0, "b")
