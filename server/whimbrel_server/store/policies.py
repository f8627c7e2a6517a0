"""The policies that windows were judged under: kept for as long as somebody may ask again.

A judgement names its policy by `policy_id`. The same device may have been judged under several: the
fleet grew, a setting was changed, a label was moved.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile.watching.alarms import Policy
from whimbrel_server.store import schema
from whimbrel_server.store.database import upsert

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = "policy/"


@lru_cache(maxsize=256)
def policy_id(policy: Policy) -> str:
    """Return the name of a policy: the first 16 digits of the hash of all that it sets."""
    return hashlib.sha256(msgspec.json.encode(policy)).hexdigest()[:16]


def save(connection: sa.Connection, policies: Iterable[Policy]) -> None:
    """Keep policies."""
    rows = [
        {"key": _PREFIX + policy_id(one), "value": msgspec.json.encode(one).decode()}
        for one in policies
    ]
    upsert(connection, schema.meta, rows)


def load(connection: sa.Connection, names: Iterable[str]) -> dict[str, Policy]:
    """Return the policies of these names, as far as they are known."""
    table = schema.meta
    keys = [_PREFIX + name for name in set(names)]
    rows = connection.execute(sa.select(table).where(table.c.key.in_(keys)))
    return {
        row.key.removeprefix(_PREFIX): msgspec.json.decode(row.value, type=Policy) for row in rows
    }
