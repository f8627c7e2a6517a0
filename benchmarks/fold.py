"""The server's fold over a whole fleet: what one device-window costs, and in how much memory.

A real database and the fold's own code, no broker and no threads: windows of 20 features and two
outputs from ``--devices`` devices in ten cohorts, one in five minutes of event time each. What is
timed is reading committed segments, adding to totals, judging, carrying detectors on, rolling up,
comparing devices with their peers when an hour closes, and writing all of it. Beside it stand the
pure parts: merging and judging alone. ``python -m benchmarks.fold``
"""

# ruff: noqa: SLF001 - what is timed is inside

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the worker sets it, before numpy's import

import argparse
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.profile import Line, micros, table
from tests.server.conftest import settings_for
from tests.support.house import build_house
from tests.support.models import logistic
from tests.support.windows import Counter
from whimbrel_core.profile import flat
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.watching import alarms
from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import WindowMessage
from whimbrel_server.app import Fleet
from whimbrel_server.domain.totals import Totals
from whimbrel_server.ingest.batch import Incoming, sort

if TYPE_CHECKING:
    from tests.support.models import MadeBundle

START_MS = 1_735_689_600_000
PERIOD_MS = 300_000
FEATURES = 20
POOL = 64


def pool(made: MadeBundle) -> list[flat.FlatWindow]:
    """Return some different windows of the bundle."""
    counter = Counter(made, seed=1)
    return [flatten(counter.window(START_MS, rows=300)) for _ in range(POOL)]


def batch(
    made: MadeBundle, windows: list[flat.FlatWindow], devices: int, period: int
) -> list[Incoming]:
    """Return the messages of every device's window of one period."""
    start = START_MS + period * PERIOD_MS
    found = []
    for n in range(devices):
        window = msgspec.structs.replace(
            windows[(7 * n + period) % POOL], start_ms=start, end_ms=start + PERIOD_MS
        )
        message = WindowMessage(
            device=f"d{n:04}",
            epoch="00000000000000aa",
            seq=period + 1,
            slot="churn",
            name=made.manifest.name,
            version=made.manifest.version,
            digest=made.digest,
            profile_id=made.baseline.profile_id,
            start_ms=start,
            end_ms=start + PERIOD_MS,
            rows=window.rows,
            payload=flat.encode(window),
            clock="event",
        )
        found.append(Incoming(f"whimbrel/v1/{message.device}/up/window", codec.encode(message), 0))
    return found


def folded(folder: Path, devices: int, periods: int) -> list[Line]:
    """Fold ``periods`` windows of each device; return what it took."""
    house = build_house(folder / "publisher")
    made = house.publish("1.0.0", recipe=logistic(FEATURES), window_s=300)
    fleet = Fleet(settings_for(house, 1, folder), env={}, now_ms=lambda: START_MS)
    for n in range(devices):
        assert fleet.knows(f"d{n:04}")
        fleet.label_device(f"d{n:04}", {"site": f"s{n % 10}"}, "benchmark")
    windows = pool(made)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took: list[float] = []
    for period in range(periods):
        sorted_out = sort(batch(made, windows, devices, period), fleet._admission)
        fleet._database.write(
            partial(fleet._journal.commit, batch=sorted_out, now_ms=START_MS),
            fleet._journal.settle,
        )
        started = time.perf_counter()
        fleet._fold.catch_up()
        took.append((time.perf_counter() - started) / devices * 1e6)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    fleet.stop()
    judge = DeviceJudge(made.baseline, alarms.policy_for(made.manifest.drift, streams=devices * 23))
    layout = made.baseline.layout
    total, some = Totals(layout), Totals.of_flat(layout, windows[0])
    positions = [alarms.Position(START_MS, "")] * POOL
    steady = sorted(took[2:])
    return [
        Line("merge a device-window (Totals.add)", micros(lambda: total.add(some)), "µs", 2),
        Line(
            "judge a device-window, of many",
            micros(lambda: judge.judge_all(windows, positions)) / POOL, "µs", 30,
        ),
        Line(f"fold a device-window of {devices}", steady[len(steady) // 2], "µs"),
        Line("  the slowest period (an hour closes)", steady[-1], "µs"),
        Line("  windows folded per second", 1e6 / (sum(took[2:]) / len(took[2:])), "1/s"),
        Line("memory that folding took", grown, "MB"),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--periods", type=int, default=15)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = folded(Path(folder), chosen.devices, chosen.periods)
    print(f"{FEATURES} features and two outputs, {chosen.devices} devices")
    print(table(lines))


if __name__ == "__main__":
    main()
