"""A fleet in which several devices drift, for everything that is asked of their findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.jobs.test_groups import DEVICES, SHORT, Books
from tests.support.house import build_house

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIFTING = DEVICES[7:10]


@pytest.fixture(scope="package")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    """Yield twelve devices, of which the three of one site drift; tests leave them as they are."""
    house = build_house(tmp_path_factory.mktemp("publisher"))
    made = house.publish("1.0.0", window_s=86_400)
    books = Books(house, made, tmp_path_factory.mktemp("server"), DEVICES[7:19], SHORT)
    books.days(0, 10)
    books.days(10, 16, lambda device: 1.2 if device in DRIFTING else 0.0)
    yield books
    books.fleet.stop()
