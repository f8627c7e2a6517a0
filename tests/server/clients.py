"""Fixtures: clients of the web over a fake fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from litestar.testing import TestClient

from tests.support.fake_fleet.fleet import FakeFleet
from tests.support.web import TOKEN, web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from litestar import Litestar

OPERATOR = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "metadata").mkdir(parents=True)
    (root / "targets").mkdir()
    (root / "metadata" / "timestamp.json").write_text('{"signed": {}}')
    return root


class Current:
    """Whatever fleet the running test has: making an application takes longer than most tests."""

    fleet: FakeFleet

    def __getattr__(self, name: str) -> object:
        return getattr(self.fleet, name)


CURRENT = Current()


@pytest.fixture(scope="session")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Litestar]:
    nowhere = tmp_path_factory.mktemp("no-repository")
    return {is_open: web(CURRENT, nowhere, read_open=is_open) for is_open in (True, False)}  # type: ignore[arg-type]


def running(app: Litestar, fleet: FakeFleet, repository: Path) -> TestClient[Litestar]:
    CURRENT.fleet = fleet
    app.state.repository = repository
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client(
    apps: dict[bool, Litestar], fleet: FakeFleet, repository: Path
) -> Iterator[TestClient[Litestar]]:
    """Reads are open, as on loopback."""
    with running(apps[True], fleet, repository) as made:
        yield made


@pytest.fixture
def new_server(apps: dict[bool, Litestar], repository: Path) -> Iterator[TestClient[Litestar]]:
    """A server without a device, a model or a broker."""
    with running(apps[True], FakeFleet(empty=True), repository) as made:
        yield made


@pytest.fixture
def closed(
    apps: dict[bool, Litestar], fleet: FakeFleet, repository: Path
) -> Iterator[TestClient[Litestar]]:
    """Reads need the token."""
    with running(apps[False], fleet, repository) as made:
        yield made
