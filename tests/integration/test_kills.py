"""kill -9 of every process of a real fleet, mid-stream: nothing lost, nothing counted twice.

The rows that a device answered are counted by the applications that asked; what the fleet counted
is in the server's books. After every story both have to be the same.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.estate import Estate

pytestmark = pytest.mark.timeout(300)
SEED = 20_260_101


class Story:
    """A fleet under traffic, and what is done to it.

    Attributes:
        kills: what was killed, in order.
    """

    def __init__(self, estate: Estate, *devices: str, seed: int = SEED) -> None:
        self.estate = estate.start(*devices)
        self.kills: list[str] = []
        self.traffic = {
            device: estate.caller(device, 1_000_000 * (seed % 1000 + i)).start()
            for i, device in enumerate(devices)
        }

    def flow(self, requests: int = 12) -> None:
        """Let every device answer so many more requests."""
        for traffic in self.traffic.values():
            traffic.wait_more(requests)

    def commit_more(self, device: str) -> None:
        """Wait until the server has committed more of a device's windows: the stream is alive."""
        now = self.estate.counts(device)
        before = now.received if now else 0

        def more() -> bool:
            count = self.estate.counts(device)
            return count is not None and count.received > before + 5

        until(more, f"more windows of {device}")

    def kill_broker(self) -> Callable[[], None]:
        """Kill the broker, which is the server where it is embedded; return how it comes back."""
        if self.estate.broker is None:
            return self.kill_server()
        self.kills.append("broker")
        self.estate.broker.kill()
        return lambda: void(self.estate.broker and self.estate.broker.start())

    def kill_server(self) -> Callable[[], None]:
        """Kill the server."""
        self.kills.append("server")
        self.estate.server.kill()
        return lambda: void(self.estate.server.start())

    def kill_control(self, device: str) -> Callable[[], None]:
        """Kill a device's control process; its worker ends with it."""
        self.kills.append("control")
        agent = self.estate.agents[device]
        agent.kill()

        def back() -> None:
            agent.launch()
            agent.wait_for(agent.answering)

        return back

    def kill_worker(self, device: str) -> Callable[[], None]:
        """Kill a device's worker; its control starts another."""
        self.kills.append("worker")
        agent = self.estate.agents[device]
        agent.kill_worker()
        return lambda: void(agent.wait_for(agent.answering))

    def close(self, *, failing: bool) -> dict[str, int]:
        """End the traffic, settle, and hold the books against what was answered.

        Args:
            failing: whether requests may have failed (a process on the serving path was killed).
        """
        estate = self.estate
        for traffic in self.traffic.values():
            traffic.stop()
            assert failing or (traffic.unreached, traffic.refused) == (0, [])
        estate.settle({device: traffic.rows for device, traffic in self.traffic.items()})
        told = {}
        for device, traffic in self.traffic.items():
            count = estate.counts(device)
            assert count is not None
            last = estate.agents[device].status()["outbox"]["last"]
            assert (count.received, count.lost, count.refused) == (last, 0, 0)
            # What was recorded and then not delivered is the application's doubt, not ours.
            assert traffic.rows <= count.rows <= traffic.rows + traffic.in_doubt
            told[device] = count
        books = estate.stop_and_read()
        assert len(books.keys) == len(set(books.keys))
        for device, count in told.items():
            assert books.rows[device] == count.rows
            assert books.windows[device] == count.windows
            assert len([key for key in books.keys if key[0] == device]) == count.windows
        print(  # noqa: T201 - the counts, for who runs this with -s
            f"kills: {', '.join(self.kills)};",
            "; ".join(
                f"{device}: {self.traffic[device].requests} requests, "
                f"{self.traffic[device].rows} rows answered, "
                f"{self.traffic[device].in_doubt} in doubt, {count.rows} merged, "
                f"{count.windows} windows, {count.duplicate} duplicates ignored"
                for device, count in told.items()
            ),
        )
        return {device: count.rows for device, count in told.items()}


def void(_value: object) -> None:
    """Forget what a call returned."""


@pytest.fixture
def story(estate: Estate) -> Callable[..., Story]:
    return lambda *devices: Story(estate, *devices)


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("estate", ["mosquitto"], indirect=True)
def test_the_broker_is_killed_three_times(story: Callable[..., Story]) -> None:
    told = story("ewr", "jfk")
    for _ in range(3):
        told.commit_more("ewr")
        back = told.kill_broker()
        told.flow()
        back()
    told.commit_more("jfk")
    told.close(failing=False)
    assert told.kills == ["broker"] * 3


def test_the_server_is_killed_three_times(story: Callable[..., Story]) -> None:
    told = story("ewr", "jfk")
    for _ in range(3):
        told.commit_more("ewr")
        back = told.kill_server()
        told.flow()
        back()
    told.commit_more("jfk")
    told.close(failing=False)
    assert told.kills == ["server"] * 3


def test_control_of_a_device_is_killed_and_comes_back(story: Callable[..., Story]) -> None:
    told = story("ewr")
    for _ in range(2):
        told.commit_more("ewr")
        told.kill_control("ewr")()
        told.flow()
    told.close(failing=True)


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("estate", ["mosquitto"], indirect=True)
def test_the_worker_of_a_device_is_killed_in_the_middle(story: Callable[..., Story]) -> None:
    told = story("ewr")
    for _ in range(3):
        told.flow(10)
        told.kill_worker("ewr")()
    told.flow(10)
    told.close(failing=True)
    worker = told.estate.agents["ewr"].status()["worker"]
    assert worker["restarts"] == 3


def test_everything_is_killed_in_a_drawn_order(story: Callable[..., Story]) -> None:
    told = story("ewr", "jfk", "lga")
    draw = random.Random(SEED)
    for _ in range(4):
        told.flow(draw.randint(5, 20))
        device, other = draw.sample(sorted(told.traffic), 2)
        chosen: list[Callable[[], Callable[[], None]]] = draw.sample(
            [
                told.kill_broker,
                told.kill_server,
                partial(told.kill_control, device),
                partial(told.kill_worker, other),
            ],
            2,
        )
        # An embedded broker is the server: it dies once.
        if told.estate.broker is None and set(chosen) == {told.kill_broker, told.kill_server}:
            chosen = chosen[:1]
        backs = [kill() for kill in chosen]
        told.traffic[draw.choice(sorted(set(told.traffic) - {device, other}))].wait_more(10)
        draw.shuffle(backs)
        for back in backs:
            back()
    told.commit_more("ewr")
    told.close(failing=True)
    assert len(told.kills) >= 5
