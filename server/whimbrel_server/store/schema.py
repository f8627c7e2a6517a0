"""The tables, as SQLAlchemy Core sees them. Migrations make them (``migrations/versions``).

Structures that are only ever read whole are msgpack or JSON in one column; what is looked up by,
counted or sorted has a column of its own. All times are integer milliseconds since 1970 UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

# SQLite makes only INTEGER PRIMARY KEY an alias of the row id.
Serial = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

streams = Table(
    "streams",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("upto", BigInteger, nullable=False),
    Column("ranges", LargeBinary, nullable=False),
    Column("missing", BigInteger, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("committed_ms", BigInteger, nullable=False),
    Column("windows", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

# Which segments hold windows of a device, and from when: a device's are read without the others'.
journal = Table(
    "journal",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("segment", BigInteger, primary_key=True),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
)

counts = Table(
    "counts",
    metadata,
    Column("device", String(63), primary_key=True),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in (
            "received",
            "windows",
            "rows",
            "merged",
            "duplicate",
            "refused",
            "unreadable",
            "bytes",
        )
    ),
)

refused = Table(
    "refused",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("device", String(63), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("code", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

aggregates = Table(
    "aggregates",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("subject", String(200), primary_key=True),
    Column("step", String(4), primary_key=True),
    Column("bucket_ms", BigInteger, primary_key=True),
    Column("windows", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("labels", BigInteger, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

judgements = Table(
    "judgements",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("subject", String(200), primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("key", String(40), primary_key=True),
    Column("level", String(8), nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("worst", String(8), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("judgements_newest", "digest", "level", "subject", "start_ms"),
)

detectors = Table(
    "detectors",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("subject", String(200), primary_key=True),
    Column("start_ms", BigInteger, nullable=False),
    Column("key", String(40), nullable=False),
    Column("policy", String(200), nullable=False, server_default=""),
    Column("payload", LargeBinary, nullable=False),
)

rollups = Table(
    "rollups",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("feature", String(256), primary_key=True),
    Column("updated_ms", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

peers = Table(
    "peers",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("labels", LargeBinary, nullable=False),
    Column("enrolled_ms", BigInteger),
    Column("presence", LargeBinary, nullable=False),
    Column("state", LargeBinary),
    Column("last_seen_ms", BigInteger),
    Column("last_window_end_ms", BigInteger),
)

assignments = Table(
    "assignments",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("slot", String(63), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

desired = Table(
    "desired",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("device", String(63), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("slot", String(63), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("detail", LargeBinary, nullable=False),
    Index("events_device", "device", "id"),
    sqlite_autoincrement=True,
)

sightings = Table(
    "sightings",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("feature", String(256), primary_key=True),
    Column("tag", String(16), primary_key=True),
    Column("device", String(63), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

words = Table(
    "words",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("feature", String(256), primary_key=True),
    Column("tag", String(16), primary_key=True),
    Column("word", Text, nullable=False),
    Column("released_ms", BigInteger, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("cause", String(400), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("raised_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("severity", String(8), nullable=False),
    Column("device", String(63), nullable=False),
    Column("model", String(63), nullable=False),
    Column("version", String(64), nullable=False),
    Column("feature", String(256), nullable=False),
    Column("message", Text, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    Column("state", String(12), nullable=False),
    Column("acknowledged_by", String(200), nullable=False, server_default=""),
    Column("announced", Boolean, nullable=False, server_default="0"),
    Column("scope", String(200), nullable=False, server_default=""),
    Column("under", String(400), nullable=False, server_default=""),
    Column("loss", LargeBinary),
    Index("alerts_cause", "cause", "state"),
    Index("alerts_announced", "announced"),
    sqlite_autoincrement=True,
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("slot", String(63), nullable=False),
    Column("model", String(63), nullable=False),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

retrainings = Table(
    "retrainings",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("model", String(63), nullable=False),
    Column("version", String(64), nullable=False),
    Column("cause", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("requested_ms", BigInteger, nullable=False),
    Column("state", String(12), nullable=False),
    Column("event", LargeBinary, nullable=False),
    Column("output", Text, nullable=False, server_default=""),
    Column("seconds", Float),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
