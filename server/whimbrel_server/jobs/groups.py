"""Groups of devices, as the fold carries them on: periods, findings, devices unlike the others.

Evaluated at each checkpoint for the versions that something came of, from how devices stand and
from periods that are judged: everything is a function of what is on disk and of which alerts are
open, so that neither order nor repetition of what arrives changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from whimbrel_core.profile.watching import alarms
from whimbrel_core.profile.watching.components import Components
from whimbrel_server.domain import aggregation, outliers, rollups
from whimbrel_server.domain.aggregation import Key
from whimbrel_server.domain.rollups import Periods
from whimbrel_server.domain.standing import evidence
from whimbrel_server.domain.subjects import FLEET, device_subject
from whimbrel_server.store import judgements, peers, periods
from whimbrel_server.store.standings import fingerprint, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import sqlalchemy as sa

    from whimbrel_core.profile.watching.judging import DeviceJudge
    from whimbrel_server.domain.aggregation import Step
    from whimbrel_server.domain.outliers import Outlier, PeerPeriod
    from whimbrel_server.domain.rollups import Rollup
    from whimbrel_server.domain.totals import Totals
    from whimbrel_server.jobs.judges import Judges
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.standings import Members, Stand, Standings


class Found(NamedTuple):
    """What one version's devices show together.

    ``standing`` names the devices, windows and cohorts that alerts are of (`fingerprint`);
    ``before``: features that were told already, and whether as the average's.
    """

    digest: str
    rollups: tuple[Rollup, ...]
    at_ms: int
    periods: Periods | None
    outliers: tuple[Outlier, ...]
    peers: tuple[PeerPeriod, ...]
    standing: str
    before: dict[str, bool]


class _Line(NamedTuple):
    level: np.ndarray[tuple[int], np.dtype[np.int64]]
    psi: np.ndarray[tuple[int], np.dtype[np.float64]]
    w1_sd: np.ndarray[tuple[int], np.dtype[np.float64]]


class Groups:
    """What the fold knows of cohorts and of the fleet.

    Args:
        repository: baselines.
        judges: who judges which group.
        standings: how devices stand.
        members: returns who serves a version.
        peers: the label whose values tell which devices are alike; empty: all are.
    """

    def __init__(
        self,
        repository: Repository,
        judges: Judges,
        standings: Standings,
        *,
        members: Callable[[str], Members],
        peers: str = "",
    ) -> None:
        self._repository, self._judges, self._standings = repository, judges, standings
        self._members, self._peers = members, peers
        self._periods: dict[tuple[str, str], dict[int, _Line]] = {}
        self._waiting: dict[str, set[int]] = {}
        self._newest: dict[str, int] = {}
        self._components: dict[str, Components] = {}

    def forget(self) -> None:
        """Forget everything that is not on disk."""
        self._periods.clear()
        self._waiting.clear()
        self._newest.clear()

    def judged(
        self, connection: sa.Connection, dirty: Iterable[Key], total: Callable[[Key], Totals]
    ) -> list[dict[str, object]]:
        """Judge the periods of groups that changed, against the baseline; return them as rows."""
        chosen: dict[tuple[str, DeviceJudge], list[Key]] = {}
        for key in dirty:
            if key.subject.startswith("d:") or key.step != self._step(key.digest):
                continue
            if total(key).rows:
                judge = self._judges.of(key.digest, key.subject)
                chosen.setdefault((key.digest, judge), []).append(key)
        found = []
        for (digest, judge), keys in chosen.items():
            members = self._members(digest)
            stands = self._stands(connection, digest, members)
            windows = [total(key).flat() for key in keys]
            positions = [alarms.Position(key.bucket_ms, "") for key in keys]
            merged = [total(key).windows for key in keys]
            drifts, _ = judge.judge_all(windows, positions, merged)
            kept = judgements.keep(judge, windows, positions, drifts, None)
            evidence = np.array([_evident(judge, stands, members, key.subject) for key in keys])
            levels = judge.told(drifts.level, evidence)
            for n, key in enumerate(keys):
                # As it will be read again: what is found must not hang on a restart.
                line = _Line(*judgements.effects_of(kept[n]))
                self._lines(connection, key.digest, key.subject)[key.bucket_ms] = line
                said = judgements.said_of_group(judge, levels[n])
                kind = "fleet" if key.subject == FLEET else "cohort"
                found.append(judgements.row(kept[n], said, key.digest, key.subject, kind))
        return found

    def found(
        self,
        connection: sa.Connection,
        dirty: Iterable[Key],
        total: Callable[[Key], Totals],
    ) -> list[Found]:
        """Return what the versions show together of which something came. After `judged`."""
        changed: dict[str, set[int]] = {}
        for key in dirty:
            buckets = changed.setdefault(key.digest, set())
            if key.subject.startswith("d:") and key.step == self._step(key.digest):
                buckets.add(key.bucket_ms)
        return [
            self._found(connection, digest, buckets, total) for digest, buckets in changed.items()
        ]

    def _found(
        self,
        connection: sa.Connection,
        digest: str,
        buckets: set[int],
        total: Callable[[Key], Totals],
    ) -> Found:
        members = self._members(digest)
        stands = self._stands(connection, digest, members)
        followed = self._judges.followed(digest, FLEET)
        judge = self._judges.of(digest, FLEET)
        fleet = self._of(connection, digest, FLEET)
        rolled: tuple[Rollup, ...] = ()
        before = peers.open_rollups(connection, digest)
        if stands:
            cohorts = {cohort for subject in stands for cohort in members[subject]}
            known = {subject: self._of(connection, digest, subject) for subject in sorted(cohorts)}
            rolled = rollups.roll_up(
                [feature.name for feature in judge.baseline.layout.features],
                judge.components,
                standing(stands, members),
                {
                    subject: one
                    for subject, one in {**known, FLEET: fleet}.items()
                    if one is not None
                },
                followed.confirm_windows,
                followed.calm_windows,
                before,
            )
        kept = peers.load(connection, digest)
        history = self._compare(connection, digest, buckets, members, stands, total)
        told = peers.open_outliers(connection, digest)
        unlike = tuple(
            one
            for one in outliers.outliers(
                history, followed.confirm_windows, followed.calm_windows, told
            )
            if device_subject(one.newest.device) in members
        )
        if history:
            # What is remembered of periods ends before an outlier does.
            began = {
                (one.newest.device, one.newest.feature): one.since_ms
                for one in (kept[-1].lasting if kept else ())
            }
            unlike = tuple(_began(one, began) for one in unlike)
            newest = msgspec.structs.replace(history[-1], lasting=unlike)
            history = (*history[:-1], newest)
        return Found(
            digest,
            rolled,
            int(fleet.start_ms[-1]) if fleet is not None else 0,
            fleet,
            unlike,
            history,
            fingerprint(stands, members) if any(one.alert for one in rolled) else "",
            before,
        )

    # ------------------------------------------------------------------------------- devices

    def _stands(self, connection: sa.Connection, digest: str, members: Members) -> dict[str, Stand]:
        self._standings.load(connection, digest, lambda subject: self._judges.of(digest, subject))
        return self._standings.among(digest, members)

    def _step(self, digest: str) -> Step:
        return aggregation.step_of(self._repository.contents(digest).manifest.drift.window_s)

    # ------------------------------------------------------------------------------- periods

    def _lines(self, connection: sa.Connection, digest: str, subject: str) -> dict[int, _Line]:
        """Return the newest periods of a group, by start."""
        at = (digest, subject)
        lines = self._periods.get(at)
        if lines is None:
            lines = self._periods[at] = {
                kept.start_ms: _Line(*judgements.effects_of(kept))
                for kept, _ in periods.newest(connection, digest, subject)
            }
        while len(lines) > periods.KEPT:
            del lines[min(lines)]
        return lines

    def _of(self, connection: sa.Connection, digest: str, subject: str) -> Periods | None:
        lines = self._lines(connection, digest, subject)
        if not lines:
            return None
        starts = sorted(lines)
        return Periods(
            np.array(starts),
            *(np.array(column) for column in zip(*(lines[at] for at in starts), strict=True)),
        )

    # --------------------------------------------------------------------------------- peers

    def _compare(  # noqa: PLR0917 - what comparing needs
        self,
        connection: sa.Connection,
        digest: str,
        buckets: set[int],
        members: Members,
        stands: Mapping[str, Stand],
        total: Callable[[Key], Totals],
    ) -> tuple[PeerPeriod, ...]:
        """Compare devices with their peers in the newest closed periods that changed.

        A period is closed when some device has begun a later one. It is compared again when
        something late comes of it, for as long as it is among the newest ones.
        """
        waiting = self._waiting.get(digest)
        if waiting is None:
            waiting = self._waiting[digest] = set(
                peers.newest(connection, digest, self._step(digest))
            )
        waiting |= buckets
        newest = self._newest[digest] = max(self._newest.get(digest, 0), *waiting, 0)
        history = {one.start_ms: one for one in peers.load(connection, digest)}
        closed = sorted({at for at in (*waiting, *history) if at < newest})[-peers.KEPT :]
        for at in closed:
            if at in waiting:
                history[at] = self._period(digest, at, members, stands, total)
        self._waiting[digest] = {at for at in waiting if at >= newest}
        return tuple(history[at] for at in closed)

    def _period(
        self,
        digest: str,
        at: int,
        members: Members,
        stands: Mapping[str, Stand],
        total: Callable[[Key], Totals],
    ) -> PeerPeriod:
        judge, step = self._judges.of(digest, FLEET), self._step(digest)
        components = self._components.get(digest)
        if components is None:
            components = self._components[digest] = Components(judge.baseline)
        alike: dict[str, dict[str, Totals]] = {}
        prefix = f"c:{self._peers}="
        for subject in stands:
            one = total(Key(digest, subject, step, at))
            if one.rows:
                own = [c[2:] for c in members[subject] if self._peers and c.startswith(prefix)]
                alike.setdefault(own[0] if own else FLEET, {})[subject[2:]] = one
        thresholds = judge.policy.thresholds
        groups = {
            name: tuple(d for d, one in some.items() if one.rows >= thresholds.min_rows)
            for name, some in sorted(alike.items())
        }
        return outliers.PeerPeriod(
            start_ms=at,
            devices=tuple(device for some in groups.values() for device in some),
            groups={} if set(groups) <= {FLEET} else groups,
            standouts=tuple(
                one
                for name, some in sorted(alike.items())
                for one in outliers.standouts(judge.baseline, components, thresholds, some, name)
            ),
        )


def _evident(
    judge: DeviceJudge, stands: Mapping[str, Stand], members: Members, subject: str
) -> list[bool]:
    """Return for which features a group has evidence: its devices' together, or one's alarm."""
    some = [one for at, one in stands.items() if subject == FLEET or subject in members[at]]
    features = len(judge.baseline.layout.features)
    if not some:
        return [False] * features
    excess = np.array([one.log_e - one.threshold for one in some])
    alarms = np.array([one.alarm for one in some]).max(axis=0).tolist()
    return [alarms[f] >= 0 or evidence(excess[:, f]) >= 0 for f in range(features)]


def _began(one: Outlier, began: Mapping[tuple[str, str], int]) -> Outlier:
    since_ms = began.get((one.newest.device, one.newest.feature), one.since_ms)
    return msgspec.structs.replace(one, since_ms=min(since_ms, one.since_ms))
