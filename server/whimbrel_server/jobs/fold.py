"""The fold: journal segments into aggregates, judgements and alarms.

One thread reads committed segments in order, adds their windows to totals in memory, judges
them, and every few seconds writes everything that changed together with the number of the last
segment, in one transaction. After a crash it goes on from that segment: nothing is added twice
and nothing is left out, because both are in the same commit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import WhimbrelError
from whimbrel_core.profile import flat
from whimbrel_core.profile.watching import alarms
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import WindowMessage
from whimbrel_server.domain import aggregation, effects
from whimbrel_server.domain.subjects import FLEET, device_subject
from whimbrel_server.domain.totals import Totals
from whimbrel_server.ingest.journal import Entry
from whimbrel_server.jobs import data, findings, group_data, verdicts
from whimbrel_server.jobs.groups import Groups
from whimbrel_server.jobs.histories import Arrived, Histories
from whimbrel_server.store import alerts, policies, schema
from whimbrel_server.store.database import upsert

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_server.domain.aggregation import Key
    from whimbrel_server.jobs.histories import Rows, Turned
    from whimbrel_server.jobs.judges import Judges
    from whimbrel_server.repository import Contents, Published, Repository
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.standings import Members

log = logging.getLogger(__name__)

CURSOR = "fold.segment"
_SEGMENTS_AT_ONCE = 4
# While messages wait to be acknowledged, folding gives way to them, but not for ever: a second,
# then a few segments, then a second.
_GIVE_WAY_S = 1.0
_LOOK_S = 0.02
# Totals kept in memory after they were written: about 18 KB each for 20 features. Every active device
# has three that each of its windows is added to (hour, day, altogether): 192 MB are for three
# thousand devices. With fewer, each window reads back what the one before it wrote.
_CLEAN_BYTES = 192_000_000
_ENTRIES = msgspec.msgpack.Decoder(list[Entry])


class Fold:
    """The fold thread.

    Args:
        database, repository: journal and baselines.
        judges: who judges which device or group.
        members: returns the devices that serve a version, with their cohorts.
        peers: the label whose values tell which devices are alike; empty: all are.
        every_s: how often what changed is written.
        give_way: whether there is something more urgent than folding.
        wrote: called after each write.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        repository: Repository,
        *,
        judges: Judges,
        members: Callable[[str], Members],
        peers: str,
        every_s: float,
        give_way: Callable[[], bool],
        wrote: Callable[[], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._repository = database, repository
        self._every_s = every_s
        self._give_way, self._wrote, self._now_ms = give_way, wrote, now_ms
        self._totals: OrderedDict[Key, Totals] = OrderedDict()
        self._dirty: set[Key] = set()
        self._judges, self._members = judges, members
        self._histories = Histories(database, repository, judges)
        self._groups = Groups(
            repository, judges, self._histories.standings, members=members, peers=peers
        )
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fold", daemon=True)
        self._cursor = self._read_cursor()
        self._folded = self._cursor

    @property
    def behind(self) -> int:
        """How many segments are committed and not yet in the aggregates on disk."""
        with self._database.read() as connection:
            newest = connection.execute(sa.select(sa.func.max(schema.segments.c.id))).scalar()
        return max((newest or 0) - self._cursor, 0)

    @property
    def folded(self) -> int:
        """The last segment that is in the aggregates on disk."""
        return self._cursor

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what was folded and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Say that a segment was committed."""
        self._wake.set()

    def catch_up(self) -> None:
        """Fold everything that is committed, and write it. For tests and for tools, no thread."""
        while self._fold_some():
            pass
        self._checkpoint()

    def _run(self) -> None:
        due = time.monotonic() + self._every_s
        while True:
            until = time.monotonic() + _GIVE_WAY_S
            while self._give_way() and not self._stopping and time.monotonic() < until:
                time.sleep(_LOOK_S)
            try:
                busy = self._fold_some()
                if self._folded != self._cursor and (
                    time.monotonic() >= due or (self._stopping and not busy)
                ):
                    self._checkpoint()
                    due = time.monotonic() + self._every_s
            except Exception:
                # What is in memory may be half of a segment: forget it, and begin again from
                # what is on disk.
                log.exception("folding failed after segment %d; trying again", self._cursor)
                self._forget()
                busy = False
                time.sleep(min(self._every_s, 5.0))
            if busy:
                continue
            if self._stopping:
                return
            pending = self._folded != self._cursor
            self._wake.wait(max(due - time.monotonic(), 0.01) if pending else 1.0)
            self._wake.clear()

    def _forget(self) -> None:
        self._totals.clear()
        self._dirty.clear()
        self._histories.forget()
        self._groups.forget()
        self._cursor = self._folded = self._read_cursor()

    def _read_cursor(self) -> int:
        with self._database.read() as connection:
            value = connection.execute(
                sa.select(schema.meta.c.value).where(schema.meta.c.key == CURSOR)
            ).scalar()
        return int(value or 0)

    def _fold_some(self) -> bool:
        table = schema.segments
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(table.c.id, table.c.payload)
                .where(table.c.id > self._folded)
                .order_by(table.c.id)
                .limit(_SEGMENTS_AT_ONCE)
            ).all()
            sums = aggregation.Sums()
            arrived: dict[str, list[Arrived]] = {}
            for row in rows:
                for entry in _ENTRIES.decode(row.payload):
                    self._add(entry, sums, arrived)
            for key, totals in sums:
                self._total(connection, key).add(totals)
                self._dirty.add(key)
            for digest, windows in arrived.items():
                self._histories.add(connection, digest, windows)
            if rows:
                self._folded = rows[-1].id
        return len(rows) == _SEGMENTS_AT_ONCE

    def _add(self, entry: Entry, sums: aggregation.Sums, arrived: dict[str, list[Arrived]]) -> None:
        message = codec.decode(WindowMessage, entry.message)
        try:
            layout = self._contents(message.digest).baseline.layout
            window = flat.decode(message.payload)
            flat.require_fit(window, layout)
        except WhimbrelError as error:
            # Checked before it was acknowledged; only a withdrawn bundle comes here.
            log.warning("a committed window cannot be added: %s", error)
            return
        sums.add(layout, message.digest, message.device, entry.cohorts, window)
        if window.rows:
            position = alarms.Position(window.start_ms, f"{message.epoch}/{message.seq:020d}")
            subject = device_subject(message.device)
            arrived.setdefault(message.digest, []).append(Arrived(subject, position, window))

    def _contents(self, digest: str) -> Contents:
        return self._repository.contents(digest)

    def _total(self, connection: sa.Connection, key: Key) -> Totals:
        known = self._totals.get(key)
        if known is not None:
            self._totals.move_to_end(key)
            return known
        table = schema.aggregates
        row = connection.execute(
            sa.select(table.c.payload, table.c.windows).where(
                table.c.digest == key.digest,
                table.c.subject == key.subject,
                table.c.step == key.step,
                table.c.bucket_ms == key.bucket_ms,
            )
        ).first()
        layout = self._contents(key.digest).baseline.layout
        if row is None:
            totals = Totals(layout)
        else:
            totals = Totals.of_flat(layout, flat.decode(row.payload), row.windows)
        self._totals[key] = totals
        return totals

    # ---------------------------------------------------------------------------- checkpoint

    def _checkpoint(self) -> None:
        if self._folded == self._cursor:
            return
        now_ms, cursor = self._now_ms(), self._folded
        for part in self._histories.replayed():
            self._database.write(partial(self._write, judged=part, now_ms=now_ms))
        judged = self._histories.rows()
        with self._database.read() as connection:
            periods = self._groups.judged(
                connection, self._dirty, lambda key: self._total(connection, key)
            )
            found = self._groups.found(
                connection, self._dirty, lambda key: self._total(connection, key)
            )
        aggregates = [_aggregate(key, self._totals[key]) for key in sorted(self._dirty)]

        def change(connection: sa.Connection) -> None:
            upsert(connection, schema.aggregates, aggregates)
            upsert(connection, schema.judgements, periods)
            self._write(connection, judged, now_ms)
            for one in found:
                published = self._repository.get(one.digest)
                if published is not None:
                    policy = self._judges.of(one.digest, FLEET).policy
                    policies.save(connection, [policy])
                    findings.tell(connection, one, published, policy, now_ms)
            group_data.tell(
                connection, periods, self._repository, self._judges, self._members, now_ms
            )
            upsert(connection, schema.meta, [{"key": CURSOR, "value": str(cursor)}])

        self._database.write(change)
        self._cursor = cursor
        self._dirty.clear()
        self._histories.settle()
        held = sum(one.size_bytes for one in self._totals.values())
        while held > _CLEAN_BYTES:
            held -= self._totals.popitem(last=False)[1].size_bytes
        self._wrote()

    def _write(self, connection: sa.Connection, judged: Rows, now_ms: int) -> None:
        upsert(connection, schema.judgements, judged.judgements)
        upsert(connection, schema.detectors, judged.detectors)
        policies.save(connection, judged.policies)
        for turned in judged.changes:
            published = self._repository.get(turned.at[0])
            if published is not None:
                _alert(connection, turned, published, now_ms)
        touched = {(str(row["digest"]), str(row["subject"])) for row in judged.detectors}
        data.tell(
            connection,
            sorted(touched),
            self._repository.get,
            lambda at: self._judges.of(*at).policy,
            now_ms,
        )


def _aggregate(key: Key, totals: Totals) -> dict[str, object]:
    return {
        "digest": key.digest,
        "subject": key.subject,
        "step": key.step,
        "bucket_ms": key.bucket_ms,
        "windows": totals.windows,
        "rows": totals.rows,
        "labels": totals.labels,
        "start_ms": totals.start_ms or 0,
        "end_ms": totals.end_ms or 0,
        "payload": totals.encode(),
    }


def _alert(connection: sa.Connection, turned: Turned, published: Published, now_ms: int) -> None:
    change, device = turned.change, turned.at[1][2:]
    cause = f"drift/{turned.at[0]}/{turned.at[1]}/{change.feature}"
    if change.severity is None:
        alerts.close(connection, cause, now_ms)
        return
    found = verdicts.device_drift(connection, turned, published.profile_id)
    alerts.raise_alert(
        connection,
        alerts.NewAlert(
            cause=cause,
            at_ms=change.at_ms,
            kind="drift",
            severity=change.severity,
            message=(
                f"{change.feature} of {published.name} {published.version} has drifted on {device}"
                f" ({effects.describe(change.evidence)})"
            ),
            device=device,
            model=published.name,
            version=published.version,
            feature=change.feature,
            evidence=found.evidence(),
        ),
        now_ms,
    )
