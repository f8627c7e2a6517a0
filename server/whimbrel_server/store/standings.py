"""How the devices of each version stand after their newest windows: small rows, kept in memory.

Filled as windows are judged; after a start from what is on disk, when somebody asks first.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa

from whimbrel_core.profile.watching import alarms
from whimbrel_core.profile.watching.evidence import NEVER
from whimbrel_server.domain.standing import Standing
from whimbrel_server.domain.subjects import cohorts_of, device_subject
from whimbrel_server.store import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from whimbrel_core.profile.watching.judging import DeviceJudge, Told
    from whimbrel_server.domain.standing import Counts, Floats

SubjectKey = tuple[str, str]
"""Digest and subject."""

Members = dict[str, tuple[str, ...]]
"""The cohorts (stored subjects) of the devices (stored subjects) that serve a version."""

_STATE = msgspec.msgpack.Decoder(alarms.SubjectState)
_PSI = 1  # its place among the distances that are kept


class Stand(NamedTuple):
    """One device after its newest window: (F,) each; see `whimbrel_server.domain.standing`."""

    log_e: Floats
    level: Counts
    alarm: Counts
    since_ms: Counts
    component: Counts
    threshold: float
    watched: int
    distances: bytes
    newest: alarms.Position

    @property
    def psi(self) -> Floats:
        """(F,) of the newest window; NaN when it is not known."""
        if not self.distances:
            return np.full(len(self.log_e), np.nan)
        kept = np.frombuffer(self.distances, "<f4").reshape(-1, len(self.log_e))
        found: Floats = kept[_PSI].astype(np.float64)
        return found


class Standings:
    """The devices of every version."""

    def __init__(self) -> None:
        self._stands: dict[str, dict[str, Stand]] = {}
        self._loaded: set[str] = set()

    def put(self, at: SubjectKey, one: Stand) -> None:
        """Take note of how a device stands."""
        self._stands.setdefault(at[0], {})[at[1]] = one

    def clear(self) -> None:
        """Forget all of them."""
        self._stands.clear()
        self._loaded.clear()

    def load(
        self, connection: sa.Connection, digest: str, judge_of: Callable[[str], DeviceJudge]
    ) -> None:
        """Read the devices of a version of which no window came since the start."""
        if digest in self._loaded:
            return
        known = self._stands.setdefault(digest, {})
        table = schema.detectors
        rows = connection.execute(
            sa.select(table.c.subject, table.c.payload).where(table.c.digest == digest)
        )
        for row in rows:
            if row.subject not in known:
                judge = judge_of(row.subject)
                state = _STATE.decode(row.payload)
                if not judge.fits(state):
                    continue  # of an earlier detector: it stands anew with its next window
                proofs = judge.proofs([state])
                known[row.subject] = _stand(judge, state, proofs.log_e[0], proofs.component[0], b"")
        self._loaded.add(digest)

    def among(self, digest: str, members: Mapping[str, tuple[str, ...]]) -> dict[str, Stand]:
        """Return how the devices stand that are among ``members`` (by subject), in order."""
        known = self._stands.get(digest, {})
        return {subject: known[subject] for subject in sorted(known) if subject in members}


def members_of(labels: Iterable[tuple[str, Mapping[str, str]]]) -> Members:
    """Return devices and their labels as members."""
    return {device_subject(device): cohorts_of(some) for device, some in labels}


def fingerprint(stands: Mapping[str, Stand], members: Mapping[str, tuple[str, ...]]) -> str:
    """Return what tells whether the same devices stand after the same windows, in the same cohorts.

    So a finding of them can be made again as long as nothing came since, and no longer.
    """
    lines = [
        (subject, one.newest, one.threshold, members[subject])
        for subject, one in sorted(stands.items())
    ]
    return sha256(msgspec.msgpack.encode(lines)).hexdigest()


def stand(
    judge: DeviceJudge, state: alarms.SubjectState, told: Told, n: int, distances: bytes
) -> Stand:
    """Return how a device stands after window ``n``, its newest one."""
    return _stand(judge, state, told.log_e[n], told.components[n], distances)


def standing(stands: Mapping[str, Stand], members: Mapping[str, tuple[str, ...]]) -> Standing:
    """Return devices side by side. ``members``: the cohorts of each, by subject."""
    columns = list(zip(*stands.values(), strict=True))
    return Standing(
        devices=[subject[2:] for subject in stands],
        cohorts=[members[subject] for subject in stands],
        log_e=np.array(columns[0]),
        level=np.array(columns[1]),
        alarm=np.array(columns[2]),
        since_ms=np.array(columns[3]),
        component=np.array(columns[4]),
        threshold=np.array(columns[5]),
        watched=np.array(columns[6]),
        psi=np.array([one.psi for one in stands.values()]),
    )


def _stand(
    judge: DeviceJudge,
    state: alarms.SubjectState,
    log_e: Floats,
    components: Counts,
    distances: bytes,
) -> Stand:
    marks = np.frombuffer(state.marks, "<i8").reshape(-1, alarms.MARKS)
    alarm = marks[:, alarms.ALARM]
    return Stand(
        log_e=log_e.copy(),
        level=marks[:, 0],
        alarm=alarm,
        since_ms=np.where(alarm >= 0, marks[:, alarms.ALARM + 1], NEVER),
        component=components.copy(),
        threshold=judge.threshold,
        watched=max(state.detector.windows - judge.policy.detector.warmup, 0),
        distances=distances,
        newest=state.newest,
    )
