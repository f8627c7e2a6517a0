"""The backlog that a device tells of stays true: told again when it is gone, or has grown a lot."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest

from tests.agent.outbox.test_outbox import window
from tests.support.broker import Broker
from tests.support.fleet import FleetEnd
from whimbrel_agent.config import Config, Mqtt, Telemetry
from whimbrel_agent.control.state import StateFile
from whimbrel_agent.telemetry import publisher as publishers
from whimbrel_agent.telemetry.outbox import Outbox
from whimbrel_agent.telemetry.publisher import Publisher
from whimbrel_core.wire.messages import Hint, Life, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs("mosquitto")
DEVICE = "ewr"
InLoop = Any  # runs a function in the loop, where the outbox lives


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = paho.Client.connect

    def from_loopback(self: paho.Client, *where: Any, **more: Any) -> object:  # noqa: ANN401 - paho's
        return connect(self, *where, **{**more, "bind_address": "127.0.0.1"})

    # paho binds to every address otherwise, which no test may.
    monkeypatch.setattr(paho.Client, "connect", from_loopback)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    state = StateFile(tmp_path / "agent.db")
    yield Outbox(state, DEVICE, 1 << 24)
    state.close()


@pytest.fixture
def end(tmp_path: Path) -> Iterator[FleetEnd]:
    broker = Broker(tmp_path / "broker").start()
    made = FleetEnd(broker)
    yield made
    made.close()
    broker.close()


def told(end: FleetEnd) -> list[int]:
    return [life.outbox_rows for life in end.lives if life.alive]


def publish_while(
    outbox: Outbox, end: FleetEnd, story: Callable[[Publisher, InLoop], None]
) -> None:
    """Run a publisher on the real broker while ``story`` runs in a thread."""
    incarnations = itertools.count(1)
    present = 0

    def life() -> Life:
        totals = outbox.totals()
        return Life(
            DEVICE,
            alive=True,
            incarnation=present,
            epoch=outbox.epoch,
            outbox_rows=totals.rows,
            outbox_first=totals.first,
            outbox_last=totals.last,
        )

    def birth() -> Life:
        nonlocal present
        present = next(incarnations)
        return life()

    async def run() -> None:
        config = Config(
            device_id=DEVICE,
            mqtt=Mqtt(host=end._broker.host, port=end._broker.port),
            telemetry=Telemetry(resend_s=30.0),
        )
        publisher = Publisher(
            config,
            outbox,
            birth=birth,
            life=life,
            state=lambda: State(DEVICE, present, 0),
            on_desired=lambda _: None,
            on_sync=lambda _: None,
        )
        running = asyncio.create_task(publisher.run())
        try:
            loop = asyncio.get_running_loop()
            await asyncio.to_thread(story, publisher, loop.call_soon_threadsafe)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def test_a_backlog_that_is_gone_is_told(
    outbox: Outbox, end: FleetEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishers, "BACKLOG_EVERY_S", 0.05)
    outbox.store([window(n) for n in range(40)])

    def story(_: Publisher, _in_loop: InLoop) -> None:
        end.wait_for(lambda: told(end)[-1:] == [0])
        assert len(end.windows) == 40

    publish_while(outbox, end, story)
    assert told(end) == [40, 0], "the birth, and once more"
    alive = [life for life in end.lives if life.alive]
    assert {life.incarnation for life in alive} == {1}, "it is the same life"
    assert alive[-1].outbox_first == 41


def test_a_backlog_that_grew_is_told_while_nobody_takes_it(
    outbox: Outbox, end: FleetEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishers, "BACKLOG_EVERY_S", 0.05)
    end.pause()

    def story(publisher: Publisher, in_loop: InLoop) -> None:
        end.wait_for(lambda: told(end) == [0])
        in_loop(lambda: outbox.store([window(n) for n in range(80)]))
        in_loop(publisher.outbox_changed)
        end.wait_for(lambda: told(end)[-1] == 80)

    publish_while(outbox, end, story)


def test_a_backlog_is_not_told_all_the_time(outbox: Outbox, end: FleetEnd) -> None:
    outbox.store([window(0)])

    def story(_: Publisher, _in_loop: InLoop) -> None:
        # It drains at once; until half a minute has gone only a birth that is asked for tells.
        end.wait_for(lambda: end.windows)
        assert told(end) == [1]
        end.hint(DEVICE, Hint("rebirth"))
        end.wait_for(lambda: len(told(end)) == 2)

    publish_while(outbox, end, story)
    assert told(end)[0] == 1
