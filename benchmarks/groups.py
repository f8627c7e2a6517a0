"""Many devices together: a drift that the fleet's average hides, and devices unlike the others.

A fleet of 1,000 devices x 20 features that differ by .2 sd and whose windows wander by .05 sd, hourly
windows of 3,600 rows, a warm-up of 48 and an ARL of 30 days. Then 35 of the 20,000 streams move by
.5 sd. Who is in the controlled list, and how soon; what the fleet's merged counts show of it.

Outliers: the same fleet at rest, and then with 20 streams at +1.5 sd, period by period; beside it what
the usual yardsticks call odd: sampling error, and a PSI of .1 against the rest.

``python -m benchmarks.groups --seed 7``
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.profile import Line, table
from tests.support.fleets import Crowd, baseline
from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.profile.drift.stacking import stacked
from whimbrel_core.profile.watching import alarms
from whimbrel_core.profile.watching.components import Components
from whimbrel_core.profile.watching.evidence import NEVER
from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_server.domain import outliers
from whimbrel_server.domain.standing import Standing, discovered
from whimbrel_server.domain.totals import Totals

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline

DEVICES, FEATURES, DRIFTING = 1000, 20, 35
HOUR_MS = 3_600_000
WARMUP, WATCHED, AFTER = 48, 24, 16


def hidden(of: Baseline, seed: int) -> list[Line]:
    """Return what is found of 35 streams that move by half a standard deviation."""
    crowd = Crowd(of, DEVICES, seed=seed)
    declared = DriftPolicy(window_s=3600, warmup_windows=WARMUP)
    judge = DeviceJudge(of, alarms.policy_for(declared, streams=DEVICES * FEATURES))
    rng = np.random.default_rng(seed + 1)
    moved = np.zeros((DEVICES, FEATURES), bool)
    moved.ravel()[rng.choice(moved.size, DRIFTING, replace=False)] = True
    states = [judge.start()] * DEVICES
    average = Judge(of)
    fleet: list[np.ndarray] = []
    found: list[np.ndarray] = []
    alone: list[np.ndarray] = []
    queues = [[d] for d in range(DEVICES)]
    for n in range(WARMUP + WATCHED + AFTER):
        crowd.shifts = 0.5 * moved if n >= WARMUP + WATCHED else 0.0 * moved
        windows = crowd.windows(n * HOUR_MS, seconds=3600)
        _, seen = judge.judge_all(windows, [alarms.Position(n * HOUR_MS, "")] * DEVICES)
        states, told, _ = judge.advance_all(states, seen, queues)
        if n < WARMUP:
            continue
        cells, invalid, rows = stacked(windows, of.layout)
        whole = (cells.sum(axis=0, keepdims=True), invalid.sum(axis=0, keepdims=True))
        fleet.append(average.measure(*whole, np.array([rows.sum()])).psi[0])
        marks = np.frombuffer(b"".join(one.marks for one in states), "<i8")
        marks = marks.reshape(DEVICES, FEATURES, alarms.MARKS)
        alarm = marks[..., alarms.ALARM]
        standing = Standing(
            devices=range(DEVICES),  # type: ignore[arg-type]  # names do not matter here
            cohorts=[()] * DEVICES,
            log_e=told.log_e,
            threshold=np.full(DEVICES, judge.threshold),
            watched=np.full(DEVICES, n + 1 - WARMUP),
            level=marks[..., 0],
            alarm=alarm,
            since_ms=np.where(alarm >= 0, marks[..., alarms.ALARM + 1], NEVER),
            component=told.components,
            psi=np.full(told.log_e.shape, np.nan),
        )
        listed = discovered(standing) & (standing.level >= alarms.WARN)
        found.append(listed | (alarm >= 0))
        alone.append(alarm >= 0)
    lists, own = np.array(found), np.array(alone)
    psi = np.array(fleet)
    sooner = [int((lists[WATCHED + k - 1] & moved).sum()) for k in (2, 3, 4, 8, AFTER)]
    return [
        Line("fleet's PSI, median feature, before", 1e5 * float(np.median(psi[:WATCHED])), "/10⁵"),
        Line("fleet's PSI, median feature, after", 1e5 * float(np.median(psi[WATCHED:])), "/10⁵"),
        Line("fleet's PSI, largest of all, after", 1e5 * float(psi[WATCHED:].max()), "/10⁵"),
        *(
            Line(f"of {DRIFTING} streams in the list after {k} windows", number, "")
            for k, number in zip((2, 3, 4, 8, AFTER), sooner, strict=True)
        ),
        Line("  of them with an alarm of their own", float((own[-1] & moved).sum()), ""),
        Line("streams wrongly in the list, ever", float((lists & ~moved).any(axis=0).sum()), ""),
    ]


def odd(of: Baseline, seed: int) -> list[Line]:
    """Return who is unlike the others in a fleet at rest, and in one with twenty odd streams."""
    components, limits = Components(of), Thresholds()
    crowd = Crowd(of, DEVICES, seed=seed + 2)
    false, periods, by_error, by_psi = 0, 6, 0, 0
    for n in range(periods):
        windows = crowd.windows(n * HOUR_MS, seconds=3600)
        totals = {f"d{d:04}": Totals.of_flat(of.layout, one) for d, one in enumerate(windows)}
        false += len(outliers.standouts(of, components, limits, totals))
        if n:
            continue
        cells, invalid, rows = stacked(windows, of.layout)
        own, error = components.values(cells, invalid, rows)
        far = np.abs(own - np.nanmedian(own, axis=0)) > 5.0 * np.sqrt(error)
        places = components.feature
        by_error = sum(
            bool(far[d, places == f].any()) for d in range(DEVICES) for f in range(FEATURES)
        )
        rest = Totals(of.layout)
        for one in totals.values():
            rest.add(one)
        against = Judge(of, rest.window(), limits).measure(cells, invalid, rows)
        by_psi = int((against.psi >= 0.1).sum())
    rng = np.random.default_rng(seed + 3)
    chosen = rng.choice(DEVICES * FEATURES, 20, replace=False)
    crowd.shifts.ravel()[chosen] = 1.5
    windows = crowd.windows(0, seconds=3600)
    totals = {f"d{d:04}": Totals.of_flat(of.layout, one) for d, one in enumerate(windows)}
    hits = outliers.standouts(of, components, limits, totals)
    right = {(f"d{at // FEATURES:04}", f"f{at % FEATURES}") for at in chosen.tolist()}
    streams = DEVICES * FEATURES
    return [
        Line(f"false outliers in {periods} periods of {streams:,} streams", false, ""),
        Line("  by sampling error instead, one period", by_error, ""),
        Line("  by PSI 0.1 against the rest, one period", by_psi, ""),
        Line("of 20 streams at +1.5 sd, found in one period", len({(h.device, h.feature) for h in hits} & right), ""),
        Line("  wrongly beside them", len({(h.device, h.feature) for h in hits} - right), ""),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=7)
    seed = parser.parse_args().seed
    of = baseline(FEATURES)
    print(f"{DEVICES:,} devices x {FEATURES} features, seed {seed}")
    print(table([*hidden(of, seed), *odd(of, seed)]))


if __name__ == "__main__":
    main()
