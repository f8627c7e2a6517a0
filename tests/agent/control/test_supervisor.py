"""The supervisor with real workers: swaps beside each other or one after the other."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.models import MadeBundle, build_bundle, logistic
from tests.support.worker import row_request, slot_spec
from whimbrel_agent.channel import Judgement, ServingSettings
from whimbrel_agent.control.sockets import Listeners
from whimbrel_agent.control.supervisor import Supervisor
from whimbrel_agent.control.waiting import within
from whimbrel_agent.control.worker import WorkerFailedError
from whimbrel_agent.paths import DataDirectory
from whimbrel_core.errors import ConfigError, UnavailableError
from whimbrel_core.wire.assignment import Probation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_agent.channel import SlotSpec


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[MadeBundle]:
    folder = tmp_path_factory.mktemp("bundles")
    first = build_bundle(folder, version="1.0.0")
    return [first, build_bundle(folder, logistic(seed=1), version="2.0.0", key=first.key)]


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    found = Listeners("127.0.0.1", 0)
    yield found
    found.close()


class Observed:
    """A supervisor, and what it told."""

    def __init__(self, folder: Path, listeners: Listeners) -> None:
        home = DataDirectory(folder / "data")
        home.create()
        self.judgements: list[Judgement] = []
        self.down: list[str] = []
        self.fell = asyncio.Event()
        self.port = listeners.port
        self.supervisor = Supervisor(
            listeners,
            home,
            ServingSettings(),
            load_timeout_s=30.0,
            drain_s=2.0,
            on_judgement=self.judgements.append,
            on_down=self._fall,
        )

    def _fall(self, ending: str, _at_work: tuple[SlotSpec, ...]) -> None:
        self.down.append(ending)
        self.fell.set()

    def version(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/v2/models/churn")
            body = msgspec.json.decode(connection.getresponse().read())
            return str(body["versions"][0]) if "versions" in body else ""
        finally:
            connection.close()

    async def served(self) -> str:
        return await asyncio.to_thread(self.version)

    async def until_served(self, version: str) -> None:
        async def poll() -> None:
            while await self.served() != version:
                pass

        await within(poll(), 20)


def test_a_swap_refuses_no_request(
    tmp_path: Path, listeners: Listeners, bundles: list[MadeBundle]
) -> None:
    statuses: list[int] = []
    stop = threading.Event()

    def hammer() -> None:
        body = msgspec.json.encode(row_request([[0.1] * 20]))
        while not stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", listeners.port, timeout=20)
            try:
                connection.request("POST", "/v2/models/churn/infer", body)
                statuses.append(connection.getresponse().status)
            except (OSError, http.client.HTTPException):
                statuses.append(0)
            finally:
                connection.close()

    async def story() -> None:
        seen = Observed(tmp_path, listeners)
        await seen.supervisor.apply((slot_spec(bundles[0]),))
        thread = threading.Thread(target=hammer)
        thread.start()
        try:
            for made in (bundles[1], bundles[0], bundles[1]):
                await seen.supervisor.apply((slot_spec(made),))
                # The one before may accept until it has read that it is to drain.
                await seen.until_served(made.manifest.version)
        finally:
            stop.set()
            await asyncio.to_thread(thread.join)
        await seen.supervisor.stop()
        assert seen.down == []

    asyncio.run(story())
    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_without_room_for_two_the_old_one_goes_first_and_comes_back_on_failure(
    tmp_path: Path, listeners: Listeners, bundles: list[MadeBundle]
) -> None:
    async def story() -> None:
        seen = Observed(tmp_path, listeners)
        old, new = slot_spec(bundles[0]), slot_spec(bundles[1])
        broken = msgspec.structs.replace(new, digest="f" * 64)
        await seen.supervisor.apply((old,))
        await seen.supervisor.apply((new,), overlap=False)
        await seen.until_served("2.0.0")
        with pytest.raises(WorkerFailedError) as caught:
            await seen.supervisor.apply((broken,), overlap=False)
        assert (caught.value.slot, caught.value.digest) == ("churn", "f" * 64)
        assert caught.value.code == "trust.digest"
        assert seen.supervisor.specs is None
        await seen.supervisor.apply((new,))
        assert await seen.served() == "2.0.0"
        await seen.supervisor.stop()
        assert seen.down == []

    asyncio.run(story())


def test_a_worker_that_cannot_load_leaves_the_one_that_serves_alone(
    tmp_path: Path, listeners: Listeners, bundles: list[MadeBundle]
) -> None:
    async def story() -> None:
        seen = Observed(tmp_path, listeners)
        await seen.supervisor.apply((slot_spec(bundles[0]),))
        pid = seen.supervisor.pid
        with pytest.raises(WorkerFailedError):
            await seen.supervisor.apply((slot_spec(bundles[1], keys=()),))
        assert seen.supervisor.pid == pid
        assert await seen.served() == "1.0.0"
        await seen.supervisor.apply((slot_spec(bundles[0]),))  # served already: nothing happens
        assert seen.supervisor.pid == pid
        await seen.supervisor.stop()

    asyncio.run(story())


def test_the_end_of_a_worker_is_told_with_its_signal(
    tmp_path: Path, listeners: Listeners, bundles: list[MadeBundle]
) -> None:
    async def story() -> None:
        seen = Observed(tmp_path, listeners)
        await seen.supervisor.apply((slot_spec(bundles[0]),))
        assert seen.supervisor.pid > 1
        os.kill(seen.supervisor.pid, signal.SIGSEGV)
        await within(seen.fell.wait(), 20)
        assert seen.down == ["SIGSEGV"]
        assert (seen.supervisor.specs, seen.supervisor.pid) == (None, 0)
        await seen.supervisor.stop()

    asyncio.run(story())


def test_the_end_of_probation_starts_no_new_worker(
    tmp_path: Path, listeners: Listeners, bundles: list[MadeBundle]
) -> None:
    async def story() -> None:
        seen = Observed(tmp_path, listeners)
        judged = slot_spec(bundles[0], probation=Probation(rows=5))
        await seen.supervisor.apply((judged,))
        pid = seen.supervisor.pid
        seen.supervisor.end_probation("churn")
        await seen.supervisor.apply((slot_spec(bundles[0]),))
        assert seen.supervisor.pid == pid
        await seen.supervisor.stop()

    asyncio.run(story())


def test_a_taken_port_and_a_wrong_address_are_told_apart(listeners: Listeners) -> None:
    with pytest.raises(UnavailableError, match="taken by another program"):
        Listeners("127.0.0.1", listeners.port)
    with pytest.raises(ConfigError, match="cannot listen there"):
        Listeners("127.0.0.1", 0, "/nonexistent/folder/http.sock")


def test_a_socket_left_by_a_dead_agent_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    first = Listeners("127.0.0.1", 0, str(path))
    first.sockets[1].close()  # dead, and its file is still there
    Listeners("127.0.0.1", 0, str(path)).close()
    first.sockets[0].close()
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"):
        Listeners("127.0.0.1", 0, str(path))
    assert path.read_text() == "precious"
