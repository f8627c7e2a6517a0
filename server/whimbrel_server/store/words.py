"""New words of categories: devices' sealed tellings, and the words that enough of them opened."""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.privacy.words import Sealed, require_sound
from whimbrel_server.store import schema
from whimbrel_server.store.database import upsert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from whimbrel_core.wire.messages import EventMessage

KIND = "words"
_MAX_AT_ONCE = 16
# A device tells 256 words of a feature at most; one that makes them up fills no more than this.
_MAX_PER_DEVICE = 512
_TELLINGS = msgspec.msgpack.Decoder(list[Sealed])


class Word(msgspec.Struct, frozen=True):
    """A word that can be read: of which feature, how many devices met it, and when the first did."""

    feature: str
    word: str
    devices: int
    first_ms: int


def keep(connection: sa.Connection, told: Sequence[EventMessage]) -> None:
    """Keep what devices tell; of each word a device's first telling counts.

    What cannot be read is left out: there is nobody who could send it better.
    """
    table = schema.sightings
    room: dict[tuple[str, str], int] = {}
    rows: list[dict[str, object]] = []
    for message in told:
        key = (message.digest, message.device)
        if key not in room:
            held = connection.execute(
                sa.select(sa.func.count()).where(
                    table.c.digest == message.digest, table.c.device == message.device
                )
            ).scalar_one()
            room[key] = _MAX_PER_DEVICE - int(held)
        for sealed in _read(message):
            if room[key] <= 0:
                break
            room[key] -= 1
            rows.append(
                {
                    "digest": message.digest[:64],
                    "feature": message.detail["feature"][:256],
                    "tag": sealed.tag.hex(),
                    "device": message.device,
                    "at_ms": message.at_ms,
                    "sealed": msgspec.msgpack.encode(sealed),
                }
            )
    upsert(connection, table, rows, keep=True)


def ripe(connection: sa.Connection, needed: Mapping[str, int]) -> list[tuple[str, str, str]]:
    """Return (digest, feature, tag) of words that enough devices told and that nobody read yet.

    Args:
        connection: to read with.
        needed: devices that are needed, by digest.
    """
    table, read = schema.sightings, schema.words
    least = min((k for k in needed.values() if k), default=0)
    if not least:
        return []
    query = (
        sa.select(table.c.digest, table.c.feature, table.c.tag, sa.func.count().label("devices"))
        .outerjoin(
            read,
            (read.c.digest == table.c.digest)
            & (read.c.feature == table.c.feature)
            & (read.c.tag == table.c.tag),
        )
        .where(read.c.tag.is_(None))
        .group_by(table.c.digest, table.c.feature, table.c.tag)
        .having(sa.func.count() >= least)
    )
    return [
        (row.digest, row.feature, row.tag)
        for row in connection.execute(query)
        if 0 < needed.get(row.digest, 0) <= row.devices
    ]


def tellings(connection: sa.Connection, digest: str, feature: str, tag: str) -> list[Sealed]:
    """Return what devices told of one word, the earliest first."""
    table = schema.sightings
    query = (
        sa.select(table.c.sealed)
        .where(table.c.digest == digest, table.c.feature == feature, table.c.tag == tag)
        .order_by(table.c.at_ms, table.c.device)
    )
    return [
        msgspec.msgpack.decode(sealed, type=Sealed)
        for sealed in connection.execute(query).scalars()
    ]


def release(
    connection: sa.Connection, found: Iterable[tuple[str, str, str, str]], now_ms: int
) -> None:
    """Write down words that could be read: digest, feature, tag and word."""
    names = ("digest", "feature", "tag", "word")
    rows = [{**dict(zip(names, one, strict=True)), "released_ms": now_ms} for one in found]
    upsert(connection, schema.words, rows)


def listing(connection: sa.Connection, digest: str) -> tuple[Word, ...]:
    """Return the words of one version that can be read, what most devices met first."""
    table, read = schema.sightings, schema.words
    query = (
        sa.select(
            read.c.feature,
            read.c.word,
            sa.func.count().label("devices"),
            sa.func.min(table.c.at_ms).label("first_ms"),
        )
        .join(
            table,
            (read.c.digest == table.c.digest)
            & (read.c.feature == table.c.feature)
            & (read.c.tag == table.c.tag),
        )
        .where(read.c.digest == digest)
        .group_by(read.c.feature, read.c.tag, read.c.word)
    )
    found = [Word(r.feature, r.word, r.devices, r.first_ms) for r in connection.execute(query)]
    return tuple(sorted(found, key=lambda word: (-word.devices, word.feature, word.word)))


def sealed_counts(connection: sa.Connection, digest: str) -> dict[str, int]:
    """Return how many words of each feature were told that nobody can read yet."""
    table, read = schema.sightings, schema.words
    told = sa.select(table.c.feature, table.c.tag).where(table.c.digest == digest).distinct()
    known = sa.select(read.c.feature, read.c.tag).where(read.c.digest == digest)
    counts: dict[str, int] = defaultdict(int)
    for row in connection.execute(told.except_(known)):
        counts[row.feature] += 1
    return dict(counts)


def _read(message: EventMessage) -> list[Sealed]:
    try:
        found = _TELLINGS.decode(b64decode(message.detail["sealed"], validate=True))
        for one in found:
            require_sound(one)
    except (KeyError, ValueError, msgspec.DecodeError, ProfileError):
        return []
    return found[:_MAX_AT_ONCE] if message.detail.get("feature") else []
