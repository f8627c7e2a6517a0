"""Telemetry: durable windows per second end to end, and what merging and judging one costs.

A real mosquitto, a real server process (``whimbrel server run``), and a load generator in this
process: windows of 20 float32 features from many devices, published at QoS 1 as fast as the
broker takes them. "Durable" counts a window when the server's acknowledgement for it arrives,
which is after the commit with ``synchronous=FULL``.

Run: python -m benchmarks.ingest [--windows 20000] [--devices 50]
"""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import tempfile
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.broker import Broker
from tests.support.house import build_house
from tests.support.models import logistic
from tests.support.server_process import ServerProcess
from tests.support.windows import Counter, payload
from whimbrel_core.identity import DeviceId
from whimbrel_core.profile import flat
from whimbrel_core.profile import window as profile_windows
from whimbrel_core.profile.watching import alarms, judging
from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.messages import Ack, WindowMessage
from whimbrel_server.domain.totals import Totals

FEATURES = 18  # with label and two probabilities: 21 profiled columns
START_MS = 1_735_689_600_000
PERIOD_MS = 300_000
VARIANTS = 64


class Load:
    """Publishes prepared messages of many devices, and counts acknowledged ones."""

    def __init__(self, port: int, epochs: dict[str, str]) -> None:
        self._acked = dict.fromkeys(epochs, 0)
        self._epochs = epochs
        self._changed = threading.Condition()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="load")
        client.max_inflight_messages_set(2000)
        client.on_message = self._on_message
        client.connect("127.0.0.1", port, bind_address="127.0.0.1")
        client.subscribe("whimbrel/v1/+/down/ack", 1)
        client.loop_start()
        self._client = client

    @property
    def acknowledged(self) -> int:
        """How many windows are acknowledged."""
        return sum(self._acked.values())

    def send(self, device: str, message: bytes) -> None:
        """Publish one prepared message."""
        self._client.publish(topics.up(DeviceId(device), "window"), message, qos=1)

    def wait(self, total: int, timeout_s: float) -> None:
        """Wait until so many windows are acknowledged."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self.acknowledged < total:
                left = deadline - time.monotonic()
                assert left > 0, f"{self.acknowledged} of {total} were acknowledged in time"
                self._changed.wait(left)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        ack = codec.decode(Ack, message.payload)
        device = message.topic.split("/")[2]
        held = ack.upto + sum(high - low + 1 for low, high in ack.ranges)
        with self._changed:
            self._acked[device] = max(self._acked[device], held)
            self._changed.notify_all()


def end_to_end(folder: Path, windows: int, devices: int) -> None:
    house = build_house(folder / "publisher")
    made = house.publish("1.0.0", recipe=logistic(FEATURES))
    broker = Broker(folder / "broker").start()
    server = ServerProcess(house, folder / "server", broker.port).start()
    counter = Counter(made)
    variants = [counter.window(START_MS, rows=1000) for _ in range(VARIANTS)]
    names = [f"device-{i:04d}" for i in range(devices)]
    epochs = {name: f"{i:016x}" for i, name in enumerate(names)}
    messages = []
    for turn in range(-(-windows // devices)):
        start_ms = START_MS + turn * PERIOD_MS  # every device's windows follow each other
        window = msgspec.structs.replace(
            variants[turn % VARIANTS], start_ms=start_ms, end_ms=start_ms + PERIOD_MS
        )
        encoded = payload(window)
        for name in names[: windows - turn * devices]:
            message = WindowMessage(
                device=name,
                epoch=epochs[name],
                seq=turn + 1,
                slot="churn",
                name="churn",
                version="1.0.0",
                digest=made.digest,
                profile_id=made.baseline.profile_id,
                start_ms=window.start_ms,
                end_ms=window.end_ms,
                rows=window.rows,
                payload=encoded,
            )
            messages.append((name, codec.encode(message)))
    load = Load(broker.port, epochs)
    time.sleep(1.0)
    begun = time.perf_counter()
    for name, data in messages:
        load.send(name, data)
    published = time.perf_counter() - begun
    load.wait(windows, 300)
    durable = time.perf_counter() - begun
    while json.load(urllib.request.urlopen(f"{server.url}/api/v1/health"))["judged_behind"]:  # noqa: S310
        time.sleep(0.1)
    judged = time.perf_counter() - begun
    load.close()
    server.stop()
    broker.close()
    with closing(sqlite3.connect(server.database)) as db:
        (counted,) = db.execute(
            "SELECT SUM(windows) FROM aggregates WHERE subject = 'fleet' AND step = 'day'"
        ).fetchone()
        (segments,) = db.execute("SELECT COUNT(*) FROM segments").fetchone()
    assert counted == windows, f"{counted} of {windows} windows are in the aggregates"
    size = sum(len(data) for _, data in messages) / windows
    print(
        f"windows                         {windows:>10,}  ({devices} devices, {size:.0f} bytes each)"
    )
    print(f"published                       {windows / published:>10,.0f} /s")
    print(f"durable and acknowledged        {windows / durable:>10,.0f} /s  ({segments} commits)")
    print(f"merged and judged               {windows / judged:>10,.0f} /s")


def steps() -> None:
    folder = Path(tempfile.mkdtemp(prefix="whimbrel-bench-"))
    made = build_house(folder / "publisher").publish("1.0.0", recipe=logistic(FEATURES))
    counter = Counter(made)
    windows = [counter.window(START_MS + i * PERIOD_MS, rows=1000) for i in range(200)]
    layout = made.baseline.layout
    judge = judging.DeviceJudge(made.baseline, alarms.Policy())
    data = [payload(window) for window in windows]
    count = len(data)
    _row(
        "decode a window into objects", lambda: [profile_windows.decode(one) for one in data], count
    )
    _row("decode it into arrays", lambda: [flat.decode(one) for one in data], count)
    arrays = [flat.decode(one) for one in data]
    _row("lay it out as totals", lambda: [Totals.of_flat(layout, one) for one in arrays], count)
    totals = [Totals.of_flat(layout, one) for one in arrays]
    whole = Totals(layout)

    def merge() -> None:
        for one in totals:
            whole.add(one)

    _row("merge it into a total", merge, count)
    positions = [alarms.Position(one.start_ms, "") for one in arrays]

    def alone() -> None:
        for one, position in zip(windows, positions, strict=True):
            judge.judge(one, position)

    _row("judge it by itself", alone, count)
    _row("judge it among many", lambda: judge.judge_all(arrays, positions), count)
    _, seen = judge.judge_all(arrays, positions)
    queues = [[i] for i in range(count)]
    start = [judge.start()]
    _row("advance one device", lambda: judge.advance_all(start, seen, [list(range(count))]), count)
    _row("advance one among many", lambda: judge.advance_all(start * count, seen, queues), count)


def _row(what: str, run: object, count: int) -> None:
    assert callable(run)
    run()
    best = min(_timed(run) for _ in range(5))
    print(f"{what:<32}{best / count * 1e6:>10.1f} µs")


def _timed(run: object) -> float:
    assert callable(run)
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--windows", type=int, default=20_000)
    parser.add_argument("--devices", type=int, default=50)
    chosen = parser.parse_args()
    print(f"ingest on {platform.machine()}, Python {platform.python_version()}")
    steps()
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as folder:
        end_to_end(Path(folder), chosen.windows, chosen.devices)


if __name__ == "__main__":
    main()
