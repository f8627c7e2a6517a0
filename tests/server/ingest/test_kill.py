"""kill -9 of the server, and of the broker, while devices send: nothing lost, nothing doubled."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.device import SimulatedDevice
from tests.support.server_process import ServerProcess
from tests.support.windows import Counter
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import WindowMessage
from whimbrel_server.ingest.journal import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.broker import Broker
    from tests.support.house import House

pytestmark = [pytest.mark.needs("mosquitto"), pytest.mark.timeout(180)]

START_MS = 1_735_689_600_000
PERIOD_MS = 300_000
WINDOWS = 600
ROWS = 20


def books(database: Path) -> tuple[list[tuple[str, int]], dict[str, tuple[int, int]]]:
    """Return the journal's keys, and windows and rows per device in the aggregates."""
    with closing(sqlite3.connect(database)) as db:
        keys = []
        for (payload,) in db.execute("SELECT payload FROM segments ORDER BY id"):
            for entry in msgspec.msgpack.decode(payload, type=list[Entry]):
                message = codec.decode(WindowMessage, entry.message)
                keys.append((message.device, message.seq))
        totals = {
            subject: (windows, rows)
            for subject, windows, rows in db.execute(
                "SELECT subject, SUM(windows), SUM(rows) FROM aggregates "
                "WHERE step = 'day' GROUP BY subject"
            )
        }
    return keys, totals


def test_no_window_is_lost_or_doubled_however_often_the_server_and_the_broker_are_killed(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    made = house.publish("1.0.0", min_rows=10)
    server = ServerProcess(house, tmp_path / "server", broker.port).start()
    names = ("ewr", "jfk")
    # Small drains make the stream long enough to be cut in many places.
    devices = [
        SimulatedDevice(name, broker.port, epoch=f"{i:016x}", drain=8)
        for i, name in enumerate(names, start=1)
    ]
    counter = Counter(made)
    windows = [counter.window(START_MS + i * PERIOD_MS, rows=ROWS) for i in range(WINDOWS)]
    for device in devices:
        for window in windows:
            device.put_window(made, window)
        device.start()
    kills = 0
    for cut in range(5):
        until = WINDOWS * len(devices) * (5 - cut) // 6
        deadline = time.monotonic() + 20
        while sum(device.waiting for device in devices) > until and time.monotonic() < deadline:
            time.sleep(0.005)
        if cut == 2:
            broker.kill()
            broker.start()
        server.kill()
        kills += 1
        server.start()
    for device in devices:
        assert device.wait_empty(60.0), f"{device.waiting} windows are not acknowledged"
        device.close()
    assert server.stop() == 0, server.log.read_text()
    keys, totals = books(server.database)
    expected = [(name, seq) for name in names for seq in range(1, WINDOWS + 1)]
    assert sorted(keys) == expected
    whole = {f"d:{name}": (WINDOWS, WINDOWS * ROWS) for name in names}
    assert totals == {**whole, "fleet": (2 * WINDOWS, 2 * WINDOWS * ROWS)}
    assert kills == 5
    assert sum(device.sent for device in devices) > len(expected), "nothing was ever sent again"
