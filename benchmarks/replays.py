"""Making a verdict again: what it reads of a journal full of other devices' windows.

A real store, filled as ingest fills it (batches of some windows of many devices), and a device whose
feature drifts. Timed are reading the windows of one alert, replaying it, and for comparison going
through the whole journal for that device's windows.

Run: python -m benchmarks.replays [--windows 24000] [--devices 240] [--batch 20]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tests.server.conftest import settings_for
from tests.support.house import build_house
from tests.support.models import logistic
from tests.support.windows import Counter, payload
from whimbrel_core.profile import flat
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import WindowMessage
from whimbrel_server.app import Fleet
from whimbrel_server.domain import verdict
from whimbrel_server.ingest.batch import Incoming, sort
from whimbrel_server.ingest.journal import Entry
from whimbrel_server.queries.replays import recount
from whimbrel_server.store import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.house import House
    from tests.support.models import MadeBundle

FEATURES = 18  # with label and two probabilities: 21 profiled columns
START_MS = 1_735_689_600_000
PERIOD_MS = 300_000
VARIANTS = 16
TIMES = 5
ODD = "d0000"


def messages(made: MadeBundle, devices: int, periods: int) -> Iterator[Incoming]:
    """Yield windows of many devices, one period after the other; one device drifts at the end."""
    counter = Counter(made, seed=1)
    plain = [counter.window(0, rows=200) for _ in range(VARIANTS)]
    moved = [counter.window(0, rows=200, shift=1.2) for _ in range(VARIANTS)]
    for period in range(periods):
        for n in range(devices):
            device = f"d{n:04}"
            odd = device == ODD and period >= periods * 2 // 3
            start = START_MS + period * PERIOD_MS
            window = msgspec.structs.replace(
                (moved if odd else plain)[(7 * n + period) % VARIANTS],
                start_ms=start,
                end_ms=start + PERIOD_MS,
            )
            message = WindowMessage(
                device=device, epoch="00000000000000aa", seq=period + 1, slot="churn",
                name=made.manifest.name, version=made.manifest.version, digest=made.digest,
                profile_id=made.baseline.profile_id, start_ms=start, end_ms=window.end_ms,
                rows=window.rows, payload=payload(window), clock="event",
            )  # fmt: skip
            yield Incoming(f"whimbrel/v1/{device}/up/window", codec.encode(message), START_MS)


def filled(house: House, made: MadeBundle, folder: Path, asked: argparse.Namespace) -> Fleet:
    """Return a fleet whose journal holds so many windows, folded."""
    fleet = Fleet(settings_for(house, 1, folder), env={}, now_ms=lambda: START_MS)
    for n in range(asked.devices):
        fleet.knows(f"d{n:04}")
    batch: list[Incoming] = []
    commits: list[float] = []
    journal = fleet._journal  # noqa: SLF001 - the store is filled as ingest fills it

    def commit() -> None:
        some = sort(batch, fleet._admission)  # noqa: SLF001 - likewise
        began = time.perf_counter()
        fleet._database.write(  # noqa: SLF001 - likewise
            lambda connection: journal.commit(connection, some, START_MS), journal.settle
        )
        commits.append(time.perf_counter() - began)
        batch.clear()

    for one in messages(made, asked.devices, -(-asked.windows // asked.devices)):
        batch.append(one)
        if len(batch) >= asked.batch:
            commit()
    if batch:
        commit()
    fleet._fold.catch_up()  # noqa: SLF001 - likewise
    print(f"commit of {asked.batch}: median {1e3 * statistics.median(commits):.2f} ms")
    return fleet


def searched(connection: sa.Connection, device: str) -> int:
    """Return how many windows of a device a pass over the whole journal finds, and decode them."""
    found = 0
    for segment in connection.execute(sa.select(schema.segments.c.payload)).scalars():
        for entry in msgspec.msgpack.decode(segment, type=list[Entry]):
            if device.encode() in entry.message:
                message = codec.decode(WindowMessage, entry.message)
                flat.decode(message.payload)
                found += 1
    return found


def timed(what: str, call: object) -> float:
    """Return the median seconds of a call, and print them."""
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        call()  # type: ignore[operator]
        seconds.append(time.perf_counter() - began)
    print(f"{what}: median {1e3 * statistics.median(seconds):.1f} ms")
    return statistics.median(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=24_000)
    parser.add_argument("--devices", type=int, default=240)
    parser.add_argument("--batch", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        house = build_house(folder / "publisher")
        made = house.publish("1.0.0", recipe=logistic(FEATURES))
        fleet = filled(house, made, folder / "server", asked)
        alert = next(one for one in fleet.alerts() if one.device == ODD)
        one = verdict.read(alert.evidence)
        assert one is not None
        at = (one.digest, one.subject)
        span = recount.Span(one.first_ms or 0, one.at_ms)
        with fleet._database.read() as connection:  # noqa: SLF001 - likewise
            held = timed("its windows", lambda: recount.held(connection, {at: span}))
            passed = timed("the whole journal", lambda: searched(connection, ODD))
        whole = timed("its replay", lambda: fleet.replay(alert.id))
        said = fleet.replay(alert.id)
        print(said.sentence)
        every = timed("all replays", fleet.replays)
        figures = {"held": held, "whole": passed, "one": whole, "all": every}
        print(json.dumps({"windows": asked.windows, **figures}))
        fleet.stop()


if __name__ == "__main__":
    main()
