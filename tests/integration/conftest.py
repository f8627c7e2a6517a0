"""Fixtures of the integration tests: packed models, and the whole fleet over either broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.support.estate import BrokerKind, Estate
from tests.support.shelf import Shelf, make_shelf

if TYPE_CHECKING:
    from collections.abc import Iterator

BROKERS = [pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto")), "embedded"]


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Return really packed models."""
    return make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(params=BROKERS)
def estate(
    request: pytest.FixtureRequest, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Estate]:
    """Yield a fleet that is not started yet, over each broker.

    Not below ``tmp_path``, which has the test's name: a socket's path has 107 bytes at most.
    """
    found = Estate(tmp_path_factory.mktemp("estate"), shelf, cast("BrokerKind", request.param))
    yield found
    found.close()


@pytest.fixture
def embedded_estate(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Yield a fleet that is not started yet, with the broker inside the server."""
    found = Estate(tmp_path_factory.mktemp("estate"), shelf, "embedded")
    yield found
    found.close()
