"""Many devices' drift as one finding: how many, where, and whether the average hides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fleets import Crowd, baseline
from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.stacking import stacked
from whimbrel_core.profile.watching import alarms
from whimbrel_core.profile.watching.evidence import NEVER
from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_server.domain import rollups
from whimbrel_server.domain.rollups import Periods, Rollup
from whimbrel_server.domain.standing import Standing, discovered, evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PERIOD_MS = 300_000
ARL = 30 * 86_400 // 300


def standing(
    log_e: NDArray[np.float64],
    *,
    drifting: NDArray[np.bool_],
    cohorts: Sequence[tuple[str, ...]] | None = None,
) -> Standing:
    devices, features = log_e.shape
    threshold = np.log(devices * features * ARL)
    alarmed = drifting & (log_e >= threshold)
    return Standing(
        devices=[f"d{i:04}" for i in range(devices)],
        cohorts=cohorts or [()] * devices,
        log_e=log_e,
        threshold=np.full(devices, threshold),
        watched=np.full(devices, 100),
        level=np.where(drifting, 2, 0),
        alarm=np.where(alarmed, 2, -1),
        since_ms=np.where(alarmed, 7 * PERIOD_MS, NEVER),
        component=np.zeros(log_e.shape, np.int64),
        psi=np.full(log_e.shape, np.nan),
    )


def rolled(one: Standing, periods: dict[str, Periods] | None = None, **told: bool) -> list[Rollup]:
    features = [f"f{i}" for i in range(one.log_e.shape[1])]
    return list(rollups.roll_up(features, ["location"], one, periods or {}, 2, 3, told))


def of_periods(*psi: float) -> Periods:
    effects = np.array(psi)[:, np.newaxis]
    return Periods(
        np.arange(len(psi)) * PERIOD_MS,
        np.searchsorted([0.02, 0.1, 0.25], effects, "right"),
        effects,
        np.sqrt(effects),
    )


def test_few_devices_that_drift_far_are_found_though_the_fleets_average_hides_them() -> None:
    of = baseline(1)
    crowd = Crowd(of, 1000, seed=35)
    declared = DriftPolicy(window_s=300, warmup_windows=8)
    judge = DeviceJudge(of, alarms.policy_for(declared, streams=1000))
    average = Judge(of)
    states = [judge.start()] * 1000
    merged = []
    for n in range(13):
        crowd.shifts[:35] = 0.0 if n < 8 else 0.7
        windows = crowd.windows(n * PERIOD_MS)
        positions = [alarms.Position(n * PERIOD_MS, "")] * 1000
        _, seen = judge.judge_all(windows, positions)
        states, told, _ = judge.advance_all(states, seen, [[d] for d in range(1000)])
        cells, invalid, rows = stacked(windows, of.layout)
        total = (cells.sum(axis=0, keepdims=True), invalid.sum(axis=0, keepdims=True))
        merged.append(average.measure(*total, np.array([rows.sum()])))
    marks = np.frombuffer(b"".join(one.marks for one in states), "<i8")
    marks = marks.reshape(1000, 1, alarms.MARKS)
    (found,) = rollups.roll_up(
        ["f0"],
        judge.components,
        Standing(
            devices=[f"d{i:04}" for i in range(1000)],
            cohorts=[("c:site=ewr",) if i < 50 else ("c:site=jfk",) for i in range(1000)],
            log_e=told.log_e,
            threshold=np.full(1000, judge.threshold),
            watched=np.full(1000, 5),
            level=marks[..., 0],
            alarm=marks[..., alarms.ALARM],
            since_ms=told.since_ms,
            component=told.components,
            psi=np.full((1000, 1), 0.5),
        ),
        {
            "fleet": Periods(
                np.arange(13) * PERIOD_MS,
                np.concatenate([one.level for one in merged]),
                np.concatenate([one.psi for one in merged]),
                np.concatenate([one.w1_sd for one in merged]),
            )
        },
        2,
        3,
        {},
    )
    # The average says next to nothing …
    assert found.fleet_psi is not None
    assert found.fleet_psi_before is not None
    assert found.fleet_psi < 0.005
    assert found.fleet_psi - found.fleet_psi_before < 0.002
    assert found.hidden
    assert not found.average
    # … and yet: who, how many, where, since when.
    drifted = {f"d{i:04}" for i in range(35)}
    assert len(drifted & set(found.names)) >= 30
    assert len(set(found.names) - drifted) <= 2
    assert found.alert
    assert found.what == "location"
    assert found.scope == "site=ewr"
    assert found.devices == 50
    assert found.since_ms is not None
    assert abs(found.since_ms - 8 * PERIOD_MS) <= 2 * PERIOD_MS


def test_an_alert_counts_devices_and_names_the_cohort_where_they_gather() -> None:
    drifting = np.zeros((1000, 2), bool)
    drifting[:280, 0] = drifting[500:532, 0] = True
    cohorts = [("c:site=ewr",) if i < 300 else ("c:site=jfk",) for i in range(1000)]
    (found,) = rolled(standing(np.where(drifting, 40.0, 0.0), drifting=drifting, cohorts=cohorts))
    assert (found.feature, found.scope, found.devices) == ("f0", "fleet", 1000)
    assert len(found.drifting) == found.alarmed == 312
    (gathered,) = found.gathered
    assert (gathered.cohort, gathered.drifting, gathered.devices) == ("site=ewr", 280, 300)
    assert found.since_ms == 7 * PERIOD_MS
    assert not found.hidden  # nothing is known of the fleet's average


def test_devices_spread_evenly_over_cohorts_gather_nowhere() -> None:
    drifting = np.zeros((1000, 1), bool)
    drifting[::10] = True
    cohorts = [(f"c:site={'ab'[i % 20 // 10]}",) for i in range(1000)]
    (found,) = rolled(standing(np.where(drifting, 40.0, 0.0), drifting=drifting, cohorts=cohorts))
    assert found.gathered == ()
    assert found.scope == "fleet"


def test_a_single_device_is_left_to_its_own_alert() -> None:
    drifting = np.zeros((10, 1), bool)
    drifting[3] = True
    state = standing(np.where(drifting, 40.0, 0.0), drifting=drifting)
    (found,) = rolled(state)
    assert not found.alert
    assert found.names == ("d0003",)
    # Hysteresis: what is told of several already goes on until none is left.
    (found,) = rolled(state, f0=False)
    assert found.alert
    assert rolled(standing(np.zeros((10, 1)), drifting=drifting & False), f0=False) == []


def test_strong_evidence_on_many_makes_weaker_evidence_enough_for_a_place_in_the_list() -> None:
    drifting = np.ones((100, 1), bool)
    weak = np.log(100 * 1 / 0.05 / 100) + np.log(100) + 0.1  # due when all hundred are believed
    alone = np.zeros((100, 1))
    alone[0] = weak
    assert not discovered(standing(alone, drifting=drifting)).any()
    assert discovered(standing(np.full((100, 1), weak), drifting=drifting)).all()


def test_streams_that_learn_still_are_not_among_the_discoveries() -> None:
    one = standing(np.full((4, 2), 50.0), drifting=np.ones((4, 2), bool))
    found = discovered(one._replace(watched=np.array([0, 9, 0, 9])))
    assert found.any(axis=1).tolist() == [False, True, False, True]


def test_a_drift_of_the_average_is_told_when_it_lasts_and_devices_together_are_evidence() -> None:
    devices = 50
    threshold = np.log(devices * ARL)
    # None of them is due, all together are.
    state = standing(
        np.full((devices, 1), threshold - np.log(devices) + 0.1), drifting=np.zeros((50, 1), bool)
    )
    (found,) = rolled(state, {"fleet": of_periods(0.0, 0.0, 0.15, 0.16)})
    assert found.average
    assert found.alert
    assert not found.hidden
    assert found.drifting == ()
    assert found.log_e >= found.threshold
    assert found.psi == pytest.approx(0.16)
    # One period is weather; and an average without evidence is, too.
    assert rolled(state, {"fleet": of_periods(0.0, 0.0, 0.0, 0.16)}) == []
    weak = state._replace(log_e=state.log_e - 0.5)
    assert rolled(weak, {"fleet": of_periods(0.0, 0.0, 0.15, 0.16)}) == []
    # It ends after calm periods, not with the first of them.
    assert rolled(state, {"fleet": of_periods(0.2, 0.0, 0.0)}, f0=True)
    assert rolled(state, {"fleet": of_periods(0.2, 0.0, 0.0, 0.0)}, f0=True) == []


@given(st.lists(st.floats(-40, 25), min_size=2, max_size=12), st.data())
def test_no_groups_evidence_is_due_before_the_fleets(
    log_e: list[float], data: st.DataObject
) -> None:
    excess = np.array(log_e) - 20.0
    some = data.draw(st.lists(st.sampled_from(range(len(log_e))), min_size=1, unique=True))
    assert evidence(excess[some]) <= evidence(excess) + 1e-9
    # Any device's own alarm is the fleet's, too: one budget covers them all.
    assert excess.max() <= evidence(excess) + 1e-9


def test_growing_fourfold_is_news() -> None:
    assert next(n for n in range(1, 70) if rollups.worth_telling_again(4, n)) == 16
