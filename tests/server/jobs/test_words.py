"""New words from devices: kept sealed, read once enough devices have told them."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from tests.server.jobs.test_fold import START_MS, Books
from whimbrel_core.profile.privacy.words import Sealed, seal
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import EventMessage
from whimbrel_server.ingest.batch import Incoming
from whimbrel_server.jobs.words import release_words
from whimbrel_server.store import schema, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.house import House

K = 5  # what a bundle asks for unless its recipe says otherwise
FLEET = tuple(f"edge-{n}" for n in range(K + 1))


@pytest.fixture
def books(house: House, tmp_path: Path) -> Iterator[Books]:
    house.publish("1.0.0", window_s=86_400)
    opened = Books(house, tmp_path)
    yield opened
    opened.fleet.stop()


def event(books: Books, device: str, seq: int, told: Sequence[Sealed] | str) -> EventMessage:
    sealed = told if isinstance(told, str) else b64encode(msgspec.msgpack.encode(told)).decode()
    return EventMessage(
        device=device,
        epoch="00000000000000aa",
        seq=seq,
        at_ms=START_MS + seq,
        kind="words",
        digest=books.fleet.repository.published()[0].digest,
        detail={"feature": "carrier", "sealed": sealed},
    )


def met(word: str, device: str) -> Sealed:
    return seal(word, profile_id="ab" * 32, feature="carrier", device=device, k=K)


def tell(books: Books, *events: EventMessage) -> None:
    fleet = books.fleet
    fleet._database.write(lambda connection: words.keep(connection, events))
    release_words(fleet._database, fleet.repository, START_MS)


def name_of(books: Books) -> str:
    return books.fleet.repository.published()[0].name


def test_a_word_is_read_when_enough_devices_told_it_and_not_before(books: Books) -> None:
    tell(
        books,
        *(event(books, d, n + 1, [met("Halden", d)]) for n, d in enumerate(FLEET[: K - 1])),
        *(event(books, FLEET[0], 50 + n, [met("Halden", FLEET[0])]) for n in range(5)),
    )
    found = books.fleet.words(name_of(books))
    assert (found.needed, found.words, found.sealed) == (K, (), {"carrier": 1})

    tell(books, event(books, FLEET[K - 1], 9, [met("Halden", FLEET[K - 1]), met("x", "y")]))
    found = books.fleet.words(name_of(books))
    assert [(w.feature, w.word, w.devices, w.first_ms) for w in found.words] == [
        ("carrier", "Halden", K, START_MS + 1)
    ]
    assert found.sealed == {"carrier": 1}

    tell(books, event(books, FLEET[K], 3, [met("Halden", FLEET[K])]))
    assert books.fleet.words(name_of(books)).words[0].devices == K + 1


def test_a_telling_goes_through_the_journal_once_and_is_no_event_for_people(books: Books) -> None:
    message = event(books, "ewr", 1, [met("Halden", "ewr")])
    incoming = Incoming("whimbrel/v1/ewr/up/event", codec.encode(message), START_MS)
    books.take([incoming, incoming])
    books.take([incoming])
    assert books.fleet.events() == ()
    assert books.fleet.words(name_of(books)).sealed == {"carrier": 1}
    assert next(c for c in books.fleet.counts() if c.device == "ewr").received == 1


@pytest.mark.parametrize("told", ["", "not base64!", "AAAA", b64encode(b"\x91\x91\xc0").decode()])
def test_what_cannot_be_read_is_left_out(books: Books, told: str) -> None:
    tell(books, event(books, "ewr", 1, told), event(books, "jfk", 2, [met("Halden", "jfk")]))
    assert books.fleet.words(name_of(books)).sealed == {"carrier": 1}


def test_a_device_that_makes_words_up_fills_no_more_than_its_share(books: Books) -> None:
    lies = [met(f"lie {n}", "ewr") for n in range(600)]
    tell(books, *(event(books, "ewr", n, lies[16 * n : 16 * n + 16]) for n in range(40)))
    with books.fleet._database.read() as connection:
        held = connection.execute(sa.select(sa.func.count()).select_from(schema.sightings)).scalar()
    assert held == 512
