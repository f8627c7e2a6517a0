"""The histories of devices, as the fold carries them on: states, judgements, and alarms that turn.

Everything here is in memory until the fold writes it (`rows`), and forgotten when that failed.
A window that is older than its device's newest one cannot be put in: its device's whole history is
replayed before writing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa

from whimbrel_server.domain import drift
from whimbrel_server.domain.judging import DeviceJudge, Seen
from whimbrel_server.store import judgements, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.judgements import Kept, Said

# States kept in memory after they were written: about 5 KB each for 20 features.
_CLEAN_STATES = 4_000
_STATE = msgspec.msgpack.Decoder(drift.SubjectState)

SubjectKey = tuple[str, str]
"""Digest and subject."""


class Arrived(NamedTuple):
    """A window of a device, to be judged."""

    subject: str
    position: drift.Position
    window: FlatWindow


class Turned(NamedTuple):
    """An alarm of a device that began, changed or ended: with which window, under which policy."""

    at: SubjectKey
    position: drift.Position
    change: drift.Change
    policy: drift.Policy


class Rows(NamedTuple):
    """What is to be written."""

    judgements: list[dict[str, object]]
    detectors: list[dict[str, object]]
    changes: list[Turned]
    policies: list[drift.Policy]


class Histories:
    """What the fold knows of devices over time.

    Args:
        database, repository: states, judgements and baselines.
        streams: returns how many devices share the false-alarm budget.
        confirm, calm: windows until an alarm, and until it ends.
    """

    def __init__(
        self,
        database: Database,
        repository: Repository,
        *,
        streams: Callable[[], int],
        confirm: int,
        calm: int,
    ) -> None:
        self._database, self._repository = database, repository
        self._streams, self._confirm, self._calm = streams, confirm, calm
        self._judges: dict[str, DeviceJudge] = {}
        self._states: OrderedDict[SubjectKey, drift.SubjectState] = OrderedDict()
        self._stored: dict[SubjectKey, drift.SubjectState | None] = {}
        self._kept: dict[SubjectKey, dict[drift.Position, Kept]] = {}
        self._said: dict[SubjectKey, dict[drift.Position, Said]] = {}
        self._changes: list[Turned] = []
        self._replays: set[SubjectKey] = set()

    def judge(self, digest: str) -> DeviceJudge:
        """Return the judge of one version."""
        judge = self._judges.get(digest)
        if judge is None:
            contents = self._repository.contents(digest)
            features = len(contents.baseline.layout.features)
            policy = drift.policy_for(
                contents.manifest.drift,
                streams=self._streams() * features,
                confirm=self._confirm,
                calm=self._calm,
            )
            judge = self._judges[digest] = DeviceJudge(contents.baseline, policy)
        return judge

    def add(self, connection: sa.Connection, digest: str, arrived: Sequence[Arrived]) -> None:
        """Judge windows of one version, and carry their devices' states on."""
        judge = self.judge(digest)
        windows = [one.window for one in arrived]
        positions = [one.position for one in arrived]
        drifts, seen = judge.judge_all(windows, positions)
        kept = judgements.keep(judge, windows, positions, drifts, seen)
        queues: dict[str, list[int]] = {}
        for n in sorted(range(len(arrived)), key=positions.__getitem__):
            at = (digest, arrived[n].subject)
            self._kept.setdefault(at, {})[positions[n]] = kept[n]
            if at in self._replays or positions[n] <= self._state(connection, at).newest:
                self._replays.add(at)
            else:
                queues.setdefault(at[1], []).append(n)
        for at, said, turned in self._advance(digest, queues, seen, kept):
            self._said.setdefault(at, {}).update(said)
            self._changes.extend(turned)

    def _advance(
        self,
        digest: str,
        queues: dict[str, list[int]],
        seen: Seen,
        kept: Sequence[Kept],
    ) -> Iterable[tuple[SubjectKey, dict[drift.Position, Said], list[Turned]]]:
        judge = self.judge(digest)
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
            found = drift.changes(turn.before, turn.after, shown, position.start_ms)
            changes.setdefault(at, []).extend(
                Turned(at, position, change, judge.policy) for change in found
            )
        for at, queue in zip(keys, queues.values(), strict=True):
            yield at, {kept[n].position: said[n] for n in queue}, changes.get(at, [])

    def alarmed(self, digest: str) -> set[str]:
        """Return the features for which a device with this bundle has an alarm."""
        features = self.judge(digest).baseline.layout.features
        found = b"".join(state.marks for (of, _), state in self._states.items() if of == digest)
        marks = np.frombuffer(found, "<i8").reshape(-1, len(features), drift.MARKS)
        some = np.any(marks[..., drift.ALARM] >= 0, axis=0)
        return {feature.name for feature, alarm in zip(features, some, strict=True) if alarm}

    def rows(self) -> Rows:
        """Return what is to be written of what came since the last `settle`."""
        self._replay()
        return Rows(
            [
                judgements.row(kept, self._said[at][position], *at, "device")
                for at, history in self._kept.items()
                for position, kept in history.items()
            ],
            [_detector(at, self._states[at]) for at in self._kept],
            list(self._changes),
            [self.judge(digest).policy for digest in {digest for digest, _ in self._kept}],
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

    def _clear(self) -> None:
        self._stored.clear()
        self._kept.clear()
        self._said.clear()
        self._changes.clear()
        self._replays.clear()

    def _state(self, connection: sa.Connection, at: SubjectKey) -> drift.SubjectState:
        state = self._states.get(at)
        if state is not None:
            self._states.move_to_end(at)
            self._stored.setdefault(at, state)
            return state
        table = schema.detectors
        payload = connection.execute(
            sa.select(table.c.payload).where(table.c.digest == at[0], table.c.subject == at[1])
        ).scalar()
        loaded = self._stored[at] = None if payload is None else _STATE.decode(payload)
        self._states[at] = loaded or self.judge(at[0]).start()
        return self._states[at]

    def _replay(self) -> None:
        """Fold again the histories into which an older window came."""
        for digest in {digest for digest, _ in self._replays}:
            histories: list[Kept] = []
            queues: dict[str, list[int]] = {}
            for at in sorted(at for at in self._replays if at[0] == digest):
                history = self._history(at)
                start = len(histories)
                histories += [history[position] for position in sorted(history)]
                queues[at[1]] = list(range(start, len(histories)))
                self._kept[at] = history
                self._states[at] = self.judge(digest).start()
            seen = judgements.seen_of(self.judge(digest), histories)
            for at, said, turned in self._advance(digest, queues, seen, histories):
                self._said[at] = said
                # What was said on the way no longer holds; what differs from the disk does, and
                # what an alarm stands on now.
                self._changes = [one for one in self._changes if one.at != at]
                last = {one.change.feature: one for one in turned}
                before, now = self._stored.get(at), self._states[at].features
                features = self.judge(digest).baseline.layout.features
                for index, feature in enumerate(features):
                    if now[index].alarm is not None:
                        self._changes.append(last[feature.name])
                    elif before is not None and before.features[index].alarm is not None:
                        self._changes.append(last.get(feature.name) or self._over(at, feature.name))
        self._replays.clear()

    def _over(self, at: SubjectKey, feature: str) -> Turned:
        """Return the end of an alarm that never was, as the whole history says."""
        newest = self._states[at].newest
        change = drift.Change(feature, None, newest.start_ms, None, {})
        return Turned(at, newest, change, self.judge(at[0]).policy)

    def _history(self, at: SubjectKey) -> dict[drift.Position, Kept]:
        table = schema.judgements
        with self._database.read() as connection:
            payloads = connection.execute(
                sa.select(table.c.payload).where(
                    table.c.digest == at[0], table.c.subject == at[1], table.c.level == "device"
                )
            ).scalars()
            stored = [judgements.kept_in(payload) for payload in payloads]
        return {**{kept.position: kept for kept in stored}, **self._kept[at]}


def _detector(at: SubjectKey, state: drift.SubjectState) -> dict[str, object]:
    return {
        "digest": at[0],
        "subject": at[1],
        "start_ms": state.newest.start_ms,
        "key": state.newest.key,
        "payload": msgspec.msgpack.encode(state),
    }
