"""The histories of devices, as the fold carries them on: states, judgements, and alarms that turn.

Everything here is in memory until the fold writes it (`rows`), and forgotten when that failed.
A window that is older than its device's newest one cannot be put in: its device's whole history is
replayed before writing (`replayed`). So it is when another policy holds for a device than the one
that its state was made under: nothing begins anew, what was kept of its windows is judged again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile.watching import alarms
from whimbrel_server.store import judgements, schema
from whimbrel_server.store.standings import Standings, SubjectKey, stand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_core.profile.watching.judging import DeviceJudge, Seen
    from whimbrel_server.domain.policies import Followed
    from whimbrel_server.jobs.judges import Judges
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.judgements import Kept, Said

# States kept in memory after they were written: about 5 KB each for 20 features.
_CLEAN_STATES = 4_000
# Histories that are replayed together: of 20 features 2.5 KB per window, and a month of windows of
# five minutes is 8,640 of them.
_REPLAYED_TOGETHER = 8
_STATE = msgspec.msgpack.Decoder(alarms.SubjectState)


class Arrived(NamedTuple):
    """A window of a device, to be judged."""

    subject: str
    position: alarms.Position
    window: FlatWindow


class Turned(NamedTuple):
    """An alarm of a device that began, changed or ended: with which window, under which policy."""

    at: SubjectKey
    position: alarms.Position
    change: alarms.Change
    policy: alarms.Policy


class Rows(NamedTuple):
    """What is to be written."""

    judgements: list[dict[str, object]]
    detectors: list[dict[str, object]]
    changes: list[Turned]
    policies: list[alarms.Policy]


class Histories:
    """What the fold knows of devices over time.

    Args:
        database, repository: states, judgements and baselines.
        judges: who judges which device.
    """

    def __init__(self, database: Database, repository: Repository, judges: Judges) -> None:
        self._database, self._repository, self._judges = database, repository, judges
        self._states: OrderedDict[SubjectKey, alarms.SubjectState] = OrderedDict()
        self._prints: dict[SubjectKey, str] = {}
        self._stored: dict[SubjectKey, alarms.SubjectState | None] = {}
        self._kept: dict[SubjectKey, dict[alarms.Position, Kept]] = {}
        self._said: dict[SubjectKey, dict[alarms.Position, Said]] = {}
        self._changes: list[Turned] = []
        self._policies: set[alarms.Policy] = set()
        self._replays: set[SubjectKey] = set()
        self.standings = Standings()

    def add(self, connection: sa.Connection, digest: str, arrived: Sequence[Arrived]) -> None:
        """Judge windows of one version, and carry their devices' states on."""
        by_policy: dict[Followed, list[Arrived]] = {}
        for one in arrived:
            by_policy.setdefault(self._judges.followed(digest, one.subject), []).append(one)
        for followed, some in by_policy.items():
            self._add(connection, digest, followed, some)

    def _add(
        self,
        connection: sa.Connection,
        digest: str,
        followed: Followed,
        arrived: Sequence[Arrived],
    ) -> None:
        judge = self._judges.under(digest, followed)
        windows = [one.window for one in arrived]
        positions = [one.position for one in arrived]
        drifts, seen = judge.judge_all(windows, positions)
        kept = judgements.keep(judge, windows, positions, drifts, seen)
        queues: dict[str, list[int]] = {}
        for n in sorted(range(len(arrived)), key=positions.__getitem__):
            at = (digest, arrived[n].subject)
            self._kept.setdefault(at, {})[positions[n]] = kept[n]
            state = self._state(connection, at, judge)
            if (
                at in self._replays
                or positions[n] <= state.newest
                or self._prints.setdefault(at, followed.fingerprint) != followed.fingerprint
            ):
                self._replays.add(at)
            else:
                queues.setdefault(at[1], []).append(n)
        for at, said, turned in self._advance(judge, digest, queues, seen, kept):
            self._said.setdefault(at, {}).update(said)
            self._changes.extend(turned)

    def _advance(
        self,
        judge: DeviceJudge,
        digest: str,
        queues: dict[str, list[int]],
        seen: Seen,
        kept: Sequence[Kept],
    ) -> Iterable[tuple[SubjectKey, dict[alarms.Position, Said], list[Turned]]]:
        self._policies.add(judge.policy)
        keys = [(digest, subject) for subject in queues]
        states, told, turns = judge.advance_all(
            [self._states[at] for at in keys], seen, list(queues.values())
        )
        self._states.update(zip(keys, states, strict=True))
        order = [n for queue in queues.values() for n in queue]
        said = dict(zip(order, judgements.say(judge, told, order), strict=True))
        changes: dict[SubjectKey, list[Turned]] = {}
        for turn in turns:
            shown = judgements.judgement(kept[turn.window], said[turn.window]).shown
            position, at = kept[turn.window].position, keys[turn.device]
            found = alarms.changes(turn.before, turn.after, shown, position.start_ms)
            changes.setdefault(at, []).extend(
                Turned(at, position, change, judge.policy) for change in found
            )
        for at, state, queue in zip(keys, states, queues.values(), strict=True):
            if queue:
                last = kept[queue[-1]]
                self.standings.put(at, stand(judge, state, told, queue[-1], last.distances))
            yield at, {kept[n].position: said[n] for n in queue}, changes.get(at, [])

    def rows(self) -> Rows:
        """Return what is to be written of what came since the last `settle`.

        What is to be replayed comes from `replayed`, before this.
        """
        return self._rows(self._kept)

    def replayed(self) -> Iterator[Rows]:
        """Replay the histories that have to be, some at a time, and yield each time what to write.

        Written before what else `rows` returns, each in a transaction of its own. A crash in
        between does no harm: their windows are folded once more, and replayed again.
        """
        by_policy: dict[tuple[str, Followed], list[SubjectKey]] = {}
        for at in sorted(self._replays):
            by_policy.setdefault((at[0], self._judges.followed(*at)), []).append(at)
        for (digest, followed), some in by_policy.items():
            for start in range(0, len(some), _REPLAYED_TOGETHER):
                together = some[start : start + _REPLAYED_TOGETHER]
                self._replay(digest, followed, together)
                yield self._rows(together)
                written = set(together)
                self._changes = [one for one in self._changes if one.at not in written]
                for at in together:
                    self._prints[at] = followed.fingerprint
                    del self._kept[at], self._said[at]
        self._replays.clear()

    def _rows(self, some: Iterable[SubjectKey]) -> Rows:
        chosen = list(some)
        among = set(chosen)
        return Rows(
            [
                judgements.row(kept, self._said[at][position], *at, "device")
                for at in chosen
                for position, kept in self._kept[at].items()
            ],
            [
                _detector(at, self._states[at], self._judges.followed(*at).fingerprint)
                for at in chosen
            ],
            [one for one in self._changes if one.at in among],
            list(self._policies),
        )

    def settle(self) -> None:
        """Take note that `rows` were written."""
        self._clear()
        while len(self._states) > _CLEAN_STATES:
            self._states.popitem(last=False)

    def forget(self) -> None:
        """Forget everything that is not on disk."""
        self._clear()
        self._states.clear()
        self._prints.clear()
        self.standings.clear()

    def _clear(self) -> None:
        self._stored.clear()
        self._kept.clear()
        self._said.clear()
        self._changes.clear()
        self._policies.clear()
        self._replays.clear()

    def _state(
        self, connection: sa.Connection, at: SubjectKey, judge: DeviceJudge
    ) -> alarms.SubjectState:
        state = self._states.get(at)
        if state is not None:
            self._states.move_to_end(at)
            self._stored.setdefault(at, state)
            return state
        table = schema.detectors
        row = connection.execute(
            sa.select(table.c.payload, table.c.policy).where(
                table.c.digest == at[0], table.c.subject == at[1]
            )
        ).first()
        loaded = None if row is None else _STATE.decode(row.payload)
        if row is not None:
            # The state of an earlier detector cannot be carried on: its history is judged again.
            self._prints[at] = row.policy if loaded is not None and judge.fits(loaded) else ""
        self._stored[at] = loaded
        self._states[at] = loaded if loaded is not None and self._prints[at] else judge.start()
        return self._states[at]

    def _replay(self, digest: str, followed: Followed, together: Sequence[SubjectKey]) -> None:
        """Fold again the histories into which an older window came, or another policy."""
        judge = self._judges.under(digest, followed)
        histories: list[Kept] = []
        queues: dict[str, list[int]] = {}
        for at in together:
            history = self._history(at)
            ordered = [history[position] for position in sorted(history)]
            if self._prints.get(at) != followed.fingerprint:
                ordered = judgements.regraded(judge, ordered)
            start = len(histories)
            histories += ordered
            queues[at[1]] = list(range(start, len(histories)))
            self._states[at] = judge.start()
        seen = judgements.seen_of(judge, histories)
        for at, said, turned in self._advance(judge, digest, queues, seen, histories):
            self._kept[at] = {histories[n].position: histories[n] for n in queues[at[1]]}
            self._said[at] = said
            # What was said on the way no longer holds; what differs from the disk does, and
            # what an alarm stands on now.
            self._changes = [one for one in self._changes if one.at != at]
            last = {one.change.feature: one for one in turned}
            before, now = self._stored.get(at), self._states[at].features
            for index, feature in enumerate(judge.baseline.layout.features):
                if now[index].alarm is not None:
                    self._changes.append(last[feature.name])
                elif before is not None and before.features[index].alarm is not None:
                    ended = last.get(feature.name) or self._over(judge, at, feature.name)
                    self._changes.append(ended)

    def _over(self, judge: DeviceJudge, at: SubjectKey, feature: str) -> Turned:
        """Return the end of an alarm that never was, as the whole history says."""
        newest = self._states[at].newest
        change = alarms.Change(feature, None, newest.start_ms, None, {})
        return Turned(at, newest, change, judge.policy)

    def _history(self, at: SubjectKey) -> dict[alarms.Position, Kept]:
        table = schema.judgements
        with self._database.read() as connection:
            payloads = connection.execute(
                sa.select(table.c.payload).where(
                    table.c.digest == at[0], table.c.subject == at[1], table.c.level == "device"
                )
            ).scalars()
            stored = [judgements.kept_in(payload) for payload in payloads]
        return {**{kept.position: kept for kept in stored}, **self._kept[at]}


def _detector(at: SubjectKey, state: alarms.SubjectState, policy: str) -> dict[str, object]:
    return {
        "digest": at[0],
        "subject": at[1],
        "start_ms": state.newest.start_ms,
        "key": state.newest.key,
        "policy": policy,
        "payload": msgspec.msgpack.encode(state),
    }
