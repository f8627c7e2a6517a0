"""From a device's outbox into the books: committed, then acknowledged, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.server.conftest import running, settings_for, until
from tests.support.device import SimulatedDevice, serving
from tests.support.windows import Counter
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import WindowMessage
from whimbrel_server import config

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.broker import Broker
    from tests.support.house import House
    from whimbrel_server.app import Fleet
    from whimbrel_server.views.devices import CountsView

pytestmark = pytest.mark.needs("mosquitto")

START_MS = 1_735_689_600_000
PERIOD_MS = 300_000


def count_of(fleet: Fleet, device: str) -> CountsView:
    return next(one for one in fleet.counts() if one.device == device)


def test_every_window_is_acknowledged_and_counted_once(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    made = house.publish("1.0.0")
    counter = Counter(made)
    device = SimulatedDevice("ewr", broker.port)
    for i in range(30):
        device.put_window(made, counter.window(START_MS + i * PERIOD_MS))
    device.put_event("update.committed", START_MS)
    with running(settings_for(house, broker.port, tmp_path / "server")) as fleet:
        device.start()
        assert device.wait_empty(20.0)
        until(lambda: fleet.health().judged_behind == 0, "the fold")
        count = count_of(fleet, "ewr")
        version = fleet.model("churn").versions[0]
        events = fleet.events("ewr")
        device.close()
    assert (count.received, count.windows, count.rows, count.lost) == (31, 30, 6000, 0)
    assert version.rows == 6000
    assert [event.kind for event in events] == ["update.committed"]


def test_a_device_that_is_not_enrolled_keeps_its_rows(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    made = house.publish("1.0.0")
    refuse = config.EnrolmentConfig(unknown_devices="refuse")
    device = SimulatedDevice("stranger", broker.port)
    device.put_window(made, Counter(made).window(START_MS))
    with running(settings_for(house, broker.port, tmp_path, enrolment=refuse)) as fleet:
        device.start()
        until(lambda: device.sent >= 2, "a second try")
        assert device.waiting == 1
        assert fleet.devices() == ()
        device.close()


def test_a_bad_row_is_recorded_and_does_not_block_the_outbox(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    made = house.publish("1.0.0")
    counter = Counter(made)
    good = counter.window(START_MS)
    device = SimulatedDevice("ewr", broker.port)
    device.put_window(made, good)
    device.put_window(made, msgspec.structs.replace(good, profile_id="0" * 64))
    unknown = msgspec.structs.replace(good, start_ms=START_MS + 1)
    seq = device.put_window(made, unknown)
    # The third row names a bundle that nobody published.
    leaf, data = device._rows[seq]
    message = codec.decode(WindowMessage, data)
    device._rows[seq] = (leaf, codec.encode(msgspec.structs.replace(message, digest="f" * 64)))
    device.put_window(made, counter.window(START_MS + PERIOD_MS))
    with running(settings_for(house, broker.port, tmp_path)) as fleet:
        device.start()
        assert device.wait_empty(20.0)
        until(lambda: fleet.health().judged_behind == 0, "the fold")
        count = count_of(fleet, "ewr")
        device.close()
        assert (count.received, count.refused, count.lost) == (2, 2, 0)
        assert fleet.model("churn").versions[0].rows == 400


def test_unreadable_messages_and_impostors_are_counted_and_harm_nobody(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    made = house.publish("1.0.0")
    window = Counter(made).window(START_MS)
    device = SimulatedDevice("ewr", broker.port)
    other = SimulatedDevice("lga", broker.port)
    other.put_window(made, window)
    _, of_other = other._rows[1]
    with running(settings_for(house, broker.port, tmp_path)) as fleet:
        device.start()
        until(lambda: fleet.devices() != (), "the birth")
        device.put_raw("window", b"\xc1 not msgpack")
        device.put_raw("window", b"")
        device.put_raw("window", b"x" * 40_000)
        device.put_raw("window", of_other)
        device.put_raw("nonsense", b"")
        device.put_window(made, window)
        assert device.wait_empty(20.0)
        until(lambda: count_of(fleet, "ewr").unreadable == 4, "the four bad messages")
        until(lambda: count_of(fleet, "").unreadable == 1, "the bad topic")
        assert count_of(fleet, "ewr").received == 1
        assert [view.device for view in fleet.devices()] == ["ewr"]
        device.close()


def test_the_will_marks_a_device_offline_and_a_late_death_does_not(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    made = house.publish("1.0.0")
    with running(settings_for(house, broker.port, tmp_path)) as fleet:
        device = SimulatedDevice("ewr", broker.port, incarnation=3)
        device.slots["churn"] = serving(made)
        device.start()
        until(lambda: fleet.devices() and fleet.device("ewr").online, "the birth")
        # The socket is cut without a farewell: the broker publishes the Will.
        device._stop.set()
        device._client.loop_stop()
        device._client._sock_close()
        until(lambda: not fleet.device("ewr").online, "the Will")
        again = SimulatedDevice("ewr", broker.port, incarnation=4).start()
        until(lambda: fleet.device("ewr").online, "the next birth")
        again.put_raw("life", _death(3))
        again.put_event("marker", START_MS)
        assert again.wait_empty(20.0)
        assert fleet.device("ewr").online
        assert fleet.device("ewr").slots == ()
        again.close()


def _death(incarnation: int) -> bytes:
    from whimbrel_core.wire.messages import Life

    return codec.encode(Life("ewr", alive=False, incarnation=incarnation))
