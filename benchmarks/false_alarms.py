"""False alarms, and how soon a change is found: a fleet of 1,000 devices, judged as the server does.

Hourly windows of 20 features for 30 days, of which the first two are the warm-up. Without any
drift, every alarm is a false one: the server's budget is one in 30 days over the whole fleet. Then
the same with shifts of .3 and .5 sd in single features. Evidence, effect and confirmation are the
server's own code (`whimbrel_core.profile.watching.judging.DeviceJudge`), on counts as devices send them
(`benchmarks._fleets`).

Beside it stand the default rules of evidently (Wasserstein-1 over the sd above .1) and whylogs (KS
at 5 %), and KS at 5 % with Benjamini–Hochberg over a window's features: on the same windows, with
distances from the same counts (they differ from those of the rows by .005 sd and .0035 at most).
Devices differ from the reference for good by .2 sd, and that is what those rules tell, window by
window; see ``per stream`` for how many they never cease to tell.

Run it with ``python -m benchmarks.false_alarms``; ``--devices 100`` for a tenth of the fleet.

The headline is shocks of .05 sd with a correlation of .5, three times the sampling error of an
hour's rows. The design gives no size for its shocks. With these, a detector of tilts about a mean,
as in the design, takes 9 and 2 windows for +.3 and +.5 sd, near the 8 and 2 that the design states,
which it does in no other setting of the grid.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import kolmogorov

from benchmarks._fleets import FEATURES, HOUR_MS, Change, Draws, Setting, reference, wander
from benchmarks.peers.rules import W1_LIMIT, one_sample_limit
from whimbrel_core.profile.drift.discoveries import benjamini_hochberg
from whimbrel_core.profile.watching.alarms import Policy, Position
from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_core.profile.watching.sequential import DetectorSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from whimbrel_core.profile.drift.drifts import Drifts

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

SEED = 20_261_121  # what it was tuned on are others
DAYS = 30
WARMUP = 48
REFERENCE_ROWS = 20_000
HEADLINE = Setting(0.05, 0.5)
GRID = (
    HEADLINE,
    Setting(0.05, 0.9),
    Setting(0.1, 0.5),
    Setting(0.1, 0.9),
    Setting(0.2, 0.5),
    Setting(0.2, 0.9),
    Setting(0.05, 0.5, rows=300),
)
HABITS = (
    Setting(0.05, 0.5, habit="heavy"),
    Setting(0.05, 0.5, habit="odd"),
    Setting(0.05, 0.5, habit="daily"),
    Setting(0.05, 0.5, habit="weekly"),
    Setting(0.1, 0.9, habit="asleep"),
)
"""What the detector's model of a device does not know; measured on a tenth of the fleet."""
SHIFTS = (0.3, 0.5)
_CHANGED = (0, 5, 10, 15)  # one feature of each reference column
_WITHIN = 40  # windows in which a change is to be found
_QUIET = 24  # windows between the warm-up and a change
_HOURS_AT_ONCE = 24
PEERS = ("evidently", "whylogs", "KS", "KS + BH")


class Verdicts(NamedTuple):
    """What rules say of some hours of a fleet, each (hours, D, F)."""

    told: Flags  # an alarm of the server
    evidence: Flags  # the detector alone
    peers: tuple[Flags, ...]  # in the order of `PEERS`


class Quiet(NamedTuple):
    """What rules say of a fleet without drift, after the warm-up."""

    windows: int  # of each device
    alarms: int  # that began
    evident: int  # streams for which the detector alone would have alarmed
    flagged: tuple[float, ...]  # share of windows × features that a peer calls drifted
    streams: tuple[float, ...]  # share of streams that a peer calls drifted at least once


class Found(NamedTuple):
    """How soon a change is told, in windows from its first one on."""

    median: float
    missed: float  # share, within `_WITHIN`


def verdicts(
    draws: Draws,
    setting: Setting,
    *,
    devices: int,
    windows: int,
    seed: int,
    change: Change | None = None,
    budget: int | None = None,
) -> Iterator[Verdicts]:
    """Yield what the rules say, a day at a time; ``budget``: devices that share the alarms'."""
    rng = np.random.default_rng(seed)
    settings = DetectorSettings(
        streams=(budget or devices) * FEATURES,
        arl_windows=DAYS * 24,
        warmup=WARMUP,
        period_s=HOUR_MS // 1000,
    )
    judge = DeviceJudge(draws.baseline, Policy(detector=settings))
    states = [judge.start()] * devices
    walk = wander(setting, devices, windows, rng, change)
    for first in range(0, windows, _HOURS_AT_ONCE):
        arrived, positions = [], []
        for _ in range(first, min(first + _HOURS_AT_ONCE, windows)):
            hour, means = next(walk)
            arrived += draws.hour(means, hour, rng)
            positions += [Position(hour * HOUR_MS)] * devices
        drifts, seen = judge.judge_all(arrived, positions)
        queues = [list(range(d, len(arrived), devices)) for d in range(devices)]
        states, told, _ = judge.advance_all(states, seen, queues)
        shape = (-1, devices, FEATURES)
        yield Verdicts(
            told.alarms.reshape(shape),
            (told.log_e >= judge.threshold).reshape(shape),
            tuple(one.reshape(shape) for one in peers(drifts, setting.rows)),
        )


def peers(drifts: Drifts, rows: int) -> tuple[Flags, ...]:
    """Return what others' rules say of windows (N, F), in the order of `PEERS`."""
    both = REFERENCE_ROWS * rows / (REFERENCE_ROWS + rows)
    p_value = kolmogorov(drifts.ks * np.sqrt(both))
    return (
        drifts.w1_sd >= W1_LIMIT,
        drifts.ks > one_sample_limit(REFERENCE_ROWS, rows),
        p_value <= 0.05,
        benjamini_hochberg(p_value, 0.05),
    )


def quiet(
    draws: Draws, setting: Setting, devices: int, seed: int, budget: int | None = None
) -> Quiet:
    """Return what the rules say of a fleet, or a part of it, without drift."""
    days = list(
        verdicts(draws, setting, devices=devices, windows=DAYS * 24, seed=seed, budget=budget)
    )
    told = np.concatenate([day.told for day in days])[WARMUP:]
    evidence = np.concatenate([day.evidence for day in days])[WARMUP:]
    others = [np.concatenate([day.peers[i] for day in days])[WARMUP:] for i in range(len(PEERS))]
    return Quiet(
        len(told),
        int((told & ~np.concatenate([told[:1] & False, told[:-1]])).sum()),
        int(evidence.any(axis=0).sum()),
        tuple(float(one.mean()) for one in others),
        tuple(float(one.any(axis=0).mean()) for one in others),
    )


def found(draws: Draws, setting: Setting, shift: float, budget: int, seed: int) -> Found:
    """Return how soon a shift of single features is told, in a part of the fleet."""
    change = Change(shift, WARMUP + _QUIET, _CHANGED)
    days = verdicts(
        draws,
        setting,
        devices=max(budget // 4, 1),
        windows=change.at + _WITHIN,
        seed=seed,
        change=change,
        budget=budget,
    )
    told = np.concatenate([day.told for day in days])[..., list(_CHANGED)]
    before = told[: change.at].any(axis=0)
    after = told[change.at :]
    windows = np.where(after.any(axis=0), after.argmax(axis=0) + 1, np.inf)[~before]
    return Found(float(np.median(windows)), float(np.isinf(windows).mean()))


def measured(devices: int, settings: tuple[Setting, ...]) -> Iterator[dict[str, object]]:
    """Measure every setting, and yield it as soon as it is."""
    baseline = reference(SEED, REFERENCE_ROWS)
    drawn: dict[int, Draws] = {}
    for index, setting in enumerate(settings):
        started = time.perf_counter()
        if setting.rows not in drawn:
            drawn = {setting.rows: Draws(baseline, setting.rows, SEED + setting.rows)}
        draws = drawn[setting.rows]
        seed = SEED + 10 * index
        part = max(devices // 10, 1) if setting.habit else devices
        calm = quiet(draws, setting, part, seed, devices)
        soon = {
            shift: found(draws, setting, shift, devices, seed + 1 + i)
            for i, shift in enumerate(SHIFTS)
        }
        yield {
            **setting._asdict(),
            "devices": part,
            **calm._asdict(),
            "found": {shift: one._asdict() for shift, one in soon.items()},
            "seconds": time.perf_counter() - started,
        }


def line(one: dict[str, object]) -> str:
    """Return a setting as a line of the table."""
    soon = {shift: Found(**figures) for shift, figures in one["found"].items()}  # type: ignore[attr-defined]
    cells = [f"{one['shock_sd']:>5}{one['correlation']:>5}{one['rows']:>6} {one['habit']:<7}"]
    cells.append(f"{one['devices']:>7,}")
    cells.append(f"{one['alarms']:>9}{one['evident']:>10}")
    for shift in SHIFTS:
        median = soon[shift].median
        late = f"> {_WITHIN}" if np.isinf(median) else f"{median:g}"
        cells.append(f"{late:>9} ({soon[shift].missed:>5.1%})")
    cells += [f"{share:>10.1%}" for share in one["flagged"]]  # type: ignore[attr-defined]
    cells += [f"{share:>10.1%}" for share in one["streams"]]  # type: ignore[attr-defined]
    return "".join(cells) + f"{one['seconds']:>7.0f} s"


def head(devices: int) -> str:
    """Return what stands above the table."""
    peers_ = "".join(f"{name:>10}" for name in PEERS)
    return (
        f"{devices:,} devices x {FEATURES} features x {DAYS * 24 - WARMUP} hourly windows after a "
        f"warm-up of {WARMUP}\n"
        f"targets at the headline {HEADLINE}: 1 false alarm at most; +.5 sd in 2 windows and +.3 "
        f"in 8, median\n\n"
        f"{'':<31}{'false alarms':>19}{'windows until told (missed)':>34}"
        f"{'windows called drifted, of all':>40}{'streams called drifted, ever':>40}\n"
        f"{'sd':>5}{'r':>5}{'rows':>6} {'habit':<7}{'devices':>7}{'told':>9}{'evidence':>10}"
        f"{'+.3 sd':>17}{'+.5 sd':>17}{peers_}{peers_}"
    )


def main() -> int:
    """Measure and print; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=1000, help="how large the fleet is")
    parser.add_argument("--headline", action="store_true", help="measure the headline alone")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    settings = (HEADLINE,) if chosen.headline else GRID + HABITS
    if not chosen.json:
        print(head(chosen.devices), flush=True)
    lines = []
    for one in measured(chosen.devices, settings):
        lines.append(one)
        if not chosen.json:
            print(line(one), flush=True)
    if chosen.json:
        print(json.dumps(lines))
    first = lines[0]
    soon: dict[float, dict[str, float]] = first["found"]  # type: ignore[assignment]
    kept = first["alarms"] <= 1 and soon[0.5]["median"] <= 2 and soon[0.3]["median"] <= 8  # type: ignore[operator]
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
