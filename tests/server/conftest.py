"""Fixtures of the server's tests: a real broker, a publisher, a fleet in this process."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.broker import Broker
from tests.support.house import House, build_house
from whimbrel_server import config
from whimbrel_server.app import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_S = 20.0


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Return a publisher with an empty repository."""
    return build_house(tmp_path / "publisher")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Yield a running mosquitto."""
    running = Broker(tmp_path / "broker").start()
    yield running
    running.close()


def settings_for(house: House, port: int, folder: Path, **sections: object) -> config.Settings:
    """Return settings over a publisher's repository; sections replace the usual ones."""
    usual = config.Config(
        mqtt=config.Mqtt(port=port),
        repository=config.RepositoryConfig(
            directory=str(house.repository.directory), online_keys=str(house.online), watch_s=0.1
        ),
        enrolment=config.EnrolmentConfig(unknown_devices="admit"),
        monitoring=config.Monitoring(checkpoint_s=0.1),
    )
    return config.Settings(msgspec.structs.replace(usual, **sections), folder)


@contextmanager
def running(settings: config.Settings) -> Iterator[Fleet]:
    """Yield a started fleet."""
    fleet = Fleet(settings, env=os.environ)
    fleet.start()
    try:
        yield fleet
    finally:
        fleet.stop()


def until(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait until ``condition`` holds; it is looked at often, and not for ever."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)
