"""The rate of requests against the usual one: false alarms, and how soon a change is told.

Simulated devices: 8 weeks of windows of 300 s, Poisson requests about a rate with a day's cycle
(a factor of 11 from night to noon), half as many at weekends, days that differ by a tenth, and a
wander of a tenth within two hours. Then the same with one thing more. Run it with
``python -m benchmarks.rates``; nothing of others is beside it, for they count no requests.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from typing import NamedTuple

import numpy as np

from whimbrel_core.profile.watching.rate import Rate, RateState, observe

SEED = 27_182
DEVICES = 8
DAYS = 56
CHANGE_DAY = 40
DAY_S = 86_400


class World(NamedTuple):
    """How requests come to a device."""

    per_s: float = 0.5
    window_s: int = 300
    weekend: float = 0.5
    days_sd: float = 0.1
    wander_sd: float = 0.1
    batch: int = 1
    change: float = 1.0  # factor of the rate on `CHANGE_DAY`
    change_days: float = 1.0


class Line(NamedTuple):
    """What came of one world, per device."""

    what: str
    findings: float
    alarms: float
    delay_min: float | None = None
    missed: int = 0


def simulate(world: World, seed: int) -> list[Rate]:
    """Return what is said of every period of one device."""
    random = np.random.default_rng([SEED, seed])
    length_ms = world.window_s * 1000
    state, said = RateState(), []
    of_day = wander = 0.0
    keep = 0.5 ** (world.window_s / 7200)
    for number in range(DAYS * DAY_S // world.window_s):
        at_s = number * world.window_s
        day = at_s / DAY_S
        if at_s % DAY_S == 0:
            of_day = random.normal() * world.days_sd
        wander = keep * wander + math.sqrt(1 - keep**2) * random.normal() * world.wander_sd
        rate = world.per_s * math.exp(1.2 * math.sin(2 * math.pi * day) + of_day + wander)
        rate *= world.weekend if int(day) % 7 >= 5 else 1.0
        if CHANGE_DAY <= day < CHANGE_DAY + world.change_days:
            rate *= world.change
        requests = int(random.poisson(rate * world.window_s / world.batch)) * world.batch
        state, one = observe(state, number * length_ms, (number + 1) * length_ms, requests)
        said += [] if one is None else [one]
    return said


def measured(what: str, world: World) -> Line:
    """Return findings and alarms per device, outside of the change, and when that was told."""
    begin, end = CHANGE_DAY * DAY_S * 1000, (CHANGE_DAY + world.change_days + 1) * DAY_S * 1000
    findings = alarms = 0
    delays: list[float] = []
    for seed in range(DEVICES):
        said = simulate(world, seed)
        changed = world.change != 1
        apart = [one for one in said if not (changed and begin <= one.start_ms < end)]
        findings += sum(one.finding is not None for one in apart)
        alarms += sum(one.before == "ok" != one.now for one in apart)
        told = [
            one.end_ms for one in said if one.start_ms >= begin and one.before == "ok" != one.now
        ]
        # A period is judged when the next one has ended, at the latest.
        within = bool(told) and told[0] < end
        delays.append((told[0] - begin) / 60_000 if within else math.inf)
    line = Line(what, findings / DEVICES, alarms / DEVICES)
    if world.change != 1:
        line = line._replace(delay_min=statistics.median(delays), missed=delays.count(math.inf))
    return line


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    usual = World()
    lines = [
        measured("as described", usual),
        measured("windows of an hour", usual._replace(window_s=3600)),
        measured("1.2 requests a minute", usual._replace(per_s=0.02)),
        measured("a tenth at weekends", usual._replace(weekend=0.1)),
        measured("days differ by .3", usual._replace(days_sd=0.3)),
        measured("a wander of .3", usual._replace(wander_sd=0.3)),
        measured("requests come by eights", usual._replace(batch=8)),
        *(
            measured(f"{what} for a day", usual._replace(change=factor))
            for what, factor in (
                ("4 times as many", 4.0),
                ("3 times as many", 3.0),
                ("twice as many", 2.0),
                ("half as many", 1 / 2),
                ("a third", 1 / 3),
                ("a quarter", 1 / 4),
            )
        ),
    ]
    if chosen.json:
        print(json.dumps([line._asdict() for line in lines]))
        return
    print(f"{DEVICES} devices, {DAYS} days, windows of {usual.window_s} s; outside of the change:")
    print(f"{'':<32}{'findings':>10}{'alarms':>10}{'told after':>14}{'missed':>10}")
    for line in lines:
        told = (
            "" if line.delay_min is None else f"{line.delay_min:,.0f} min".replace("inf min", "–")
        )
        missed = "" if line.delay_min is None else str(line.missed)
        print(f"{line.what:<32}{line.findings:>10.2f}{line.alarms:>10.2f}{told:>14}{missed:>10}")


if __name__ == "__main__":
    main()
