"""Bytes that are no messages, on every topic, and a server whose disk is full: nothing is lost."""

from __future__ import annotations

import random
import resource
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.waiting import until
from whimbrel_core.identity import DeviceId
from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.messages import Ack, Life, ServerLife

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.estate import Estate

pytestmark = pytest.mark.timeout(240)
DEVICE = DeviceId("ewr")
UP: tuple[topics.Up, ...] = ("life", "state", "window", "event")
DOWN: tuple[topics.Down, ...] = ("desired", "ack", "hint")


def nonsense(seed: int) -> Iterator[bytes]:
    """Yield random bytes of many lengths, and whole messages that were cut or changed."""
    draw = random.Random(seed)
    valid = [
        codec.encode(Life(DEVICE, alive=True, incarnation=1)),
        codec.encode(Ack("0" * 16, 5)),
        codec.encode(ServerLife(alive=True, incarnation=1)),
        b'{"payload":"e30=","payloadType":"x","signatures":[]}',
    ]
    yield from (b"", b"\xc1", b"{}", b"[]", b"\x80", b"null", b"\xff" * 40_000, b"[" * 5_000)
    for _ in range(25):
        yield draw.randbytes(draw.randint(1, 300))
        message = bytearray(draw.choice(valid))
        yield bytes(message[: draw.randint(1, len(message) - 1)])
        # A message that is well-formed and says something else could be believed: only its kind
        # is damaged here.
        message[draw.randint(0, 3)] ^= 0xC1
        yield bytes(message)


@pytest.mark.parametrize("estate", ["embedded"], indirect=True)
def test_nonsense_on_every_topic_changes_nothing(estate: Estate) -> None:
    agent = estate.start("ewr").agents["ewr"]
    caller = estate.caller("ewr")
    caller.ask_for(10)
    before = agent.status()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="somebody")
    client.connect("127.0.0.1", estate.mqtt_port, bind_address="127.0.0.1")
    client.loop_start()
    try:
        names = [
            *(topics.up(DEVICE, leaf) for leaf in UP),
            *(topics.down(DEVICE, leaf) for leaf in DOWN),
            topics.ALL_HINT,
            topics.SERVER_LIFE,
            "whimbrel/v1/ewr/up/nothing",
            "whimbrel/v1/EWR/up/window",
        ]
        for seed, name in enumerate(names):
            for payload in nonsense(seed):
                client.publish(name, payload, qos=1).wait_for_publish(10.0)
        caller.ask_for(10)
        agent.wait_for(lambda: agent.status()["fleet"]["refused_messages"] > 50)
        until(
            lambda: (c := estate.counts("ewr")) is not None and c.unreadable > 50,
            "the server to refuse",
        )
    finally:
        client.disconnect()
        client.loop_stop()
    after = agent.status()
    assert after["slots"] == before["slots"]
    assert after["revision"] == before["revision"]
    assert "refused" in after["last_error"] or "refused" in after["fleet"]["last_error"]
    estate.settle({"ewr": caller.rows})
    assert [view.device for view in estate.client.devices()] == ["ewr"]
    count = estate.counts("ewr")
    assert count is not None
    assert (count.rows, count.lost) == (caller.rows, 0)
    assert (caller.unreached, caller.refused) == (0, [])
    assert estate.stop_and_read().rows == {"ewr": caller.rows}


@pytest.mark.parametrize("estate", ["embedded"], indirect=True)
def test_a_server_on_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room(
    estate: Estate,
) -> None:
    estate.start("ewr")
    caller = estate.caller("ewr").start()
    caller.wait_more(20)
    server = estate.server.pid
    _, hard = resource.prlimit(server, resource.RLIMIT_FSIZE)
    # No file of the server may grow any more: what it writes fails as on a full disk.
    resource.prlimit(server, resource.RLIMIT_FSIZE, (4096, hard))
    until(lambda: not estate.client.health().ok, "the server to say that it cannot store")
    problems = estate.client.health().problems
    stuck = estate.counts("ewr")
    caller.wait_more(50)
    later = estate.counts("ewr")
    assert stuck is not None
    assert later is not None
    assert any("store" in problem for problem in problems), problems
    assert later.received == stuck.received
    assert estate.agents["ewr"].status()["outbox"]["rows"] > 0

    resource.prlimit(server, resource.RLIMIT_FSIZE, (hard, hard))
    caller.wait_more(10)
    caller.stop()
    estate.settle({"ewr": caller.rows})
    count = estate.counts("ewr")
    assert count is not None
    assert (count.rows, count.lost) == (caller.rows, 0)
    assert (caller.unreached, caller.refused) == (0, [])
    assert estate.stop_and_read().rows == {"ewr": caller.rows}
