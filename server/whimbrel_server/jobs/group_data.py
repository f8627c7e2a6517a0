"""Alerts about the data of many devices: what a cohort's, or the fleet's, merged counts say.

What is wrong on one device is that device's alert (`whimbrel_server.jobs.data`). Here it is told once
for many: a third of all rows lacks a value, a word that nobody knows comes from a whole site. Where
single devices tell it, too, their alerts stand under this one; where none does, because each has too
few rows or too little of it, this one is all there is. What one device alone has said is not said
again of its groups. Of groups the largest is told: the fleet, or else the cohort that has most of it. One thing that is wrong is one alert, whichever group it is told of.

In the transaction that writes the periods' judgements, of which the findings are a function.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from whimbrel_server.domain import aggregation, troubles, verdict
from whimbrel_server.domain.subjects import FLEET, shown_subject
from whimbrel_server.jobs import data
from whimbrel_server.store import alerts, peers, periods, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from whimbrel_core.profile.watching.alarms import Policy
    from whimbrel_server.domain.troubles import Trouble
    from whimbrel_server.jobs.judges import Judges
    from whimbrel_server.repository import Published, Repository
    from whimbrel_server.store.judgements import Kept
    from whimbrel_server.store.standings import Members

PREFIX = "groupdata/"
_PERIOD_MS = {"hour": aggregation.HOUR_MS, "day": aggregation.DAY_MS}
_ONE = 1  # device: it tells by itself


class Version(NamedTuple):
    """A version whose groups are looked at.

    Args:
        published: its bundle.
        step: by which period its groups are judged.
        members: who serves it.
        policy: returns what holds for a group (stored subject).
    """

    published: Published
    step: aggregation.Step
    members: Members
    policy: Callable[[str], Policy]


def tell(  # noqa: PLR0917 - what groups are known by
    connection: sa.Connection,
    judged: Iterable[Mapping[str, object]],
    repository: Repository,
    judges: Judges,
    members: Callable[[str], Members],
    now_ms: int,
) -> None:
    """Raise, bring up to date and close the alerts about the data of groups.

    Args:
        connection: of the transaction.
        judged: periods of groups that were written, as rows.
        repository: bundles.
        judges: who judges which group.
        members: returns who serves a version.
        now_ms: the wall clock.
    """
    subjects: dict[str, set[str]] = {}
    for row in judged:
        subjects.setdefault(str(row["digest"]), set()).add(str(row["subject"]))
    for digest, some in subjects.items():
        published = repository.get(digest)
        if published is not None:
            window_s = repository.contents(digest).manifest.drift.window_s
            policy = partial(_policy, judges, digest)
            version = Version(published, aggregation.step_of(window_s), members(digest), policy)
            _tell(connection, version, some, now_ms)


def _policy(judges: Judges, digest: str, subject: str) -> Policy:
    return judges.of(digest, subject).policy


def cause_of(digest: str, key: troubles.Key) -> str:
    """Return the cause of an alert about the data of many devices."""
    return f"{PREFIX}{digest}/{key[1]}/{key[0]}"


def _tell(connection: sa.Connection, version: Version, subjects: set[str], now_ms: int) -> None:
    digest = version.published.digest
    told = _told(connection, digest)
    found: dict[troubles.Key, dict[str, Trouble]] = {}
    histories: dict[str, list[Kept]] = {}
    for subject in sorted({*subjects, *told.values()}):
        before = {key for key, of in told.items() if of == subject}
        newest = periods.newest(connection, digest, subject, 1)
        if not before and not any(kept.findings for kept, _ in newest):
            continue
        histories[subject] = [
            kept for kept, _ in periods.newest(connection, digest, subject, data.WINDOWS)
        ]
        for one in data.lasting(histories[subject], before, version.policy(subject)):
            found.setdefault((one.finding.feature, one.finding.kind), {})[subject] = one
    standing = set[troubles.Key]()
    for key, groups in found.items():
        before_ms = now_ms - _PERIOD_MS[version.step] * version.policy(FLEET).confirm_windows
        single = _devices(connection, digest, key, before_ms)
        if len(single) == _ONE and key not in told:
            continue
        chosen = _widest(groups, told.get(key, ""))
        standing.add(key)
        _raise(connection, version, chosen, groups[chosen], histories[chosen], now_ms)
        _hang(connection, version, chosen, key, single)
    for key in told.keys() - standing:
        cause = cause_of(digest, key)
        alerts.release(connection, cause)
        alerts.close(connection, cause, now_ms)


def _told(connection: sa.Connection, digest: str) -> dict[troubles.Key, str]:
    """Return what is told already, and of which group."""
    prefix = f"{PREFIX}{digest}/"
    found = {}
    for cause, evidence in alerts.evidence_of(connection, prefix).items():
        kind, feature = cause.removeprefix(prefix).split("/", 1)
        found[feature, kind] = str(evidence["subject"])
    return found


def _widest(groups: Mapping[str, Trouble], was: str) -> str:
    """Return of which group something is told: the fleet, as before, or where most of it is."""
    if FLEET in groups:
        return FLEET
    return min(groups, key=lambda one: (one != was, -groups[one].finding.share, one))


def _devices(
    connection: sa.Connection, digest: str, key: troubles.Key, since_ms: int
) -> dict[str, str]:
    """Return the devices that told something by themselves, still or lately, and their causes.

    Lately: what a device has told and is over for it may still be in the newest periods of its groups.
    """
    table = schema.alerts
    causes = connection.execute(
        sa.select(table.c.cause).where(
            table.c.cause.startswith(f"{data.PREFIX}{digest}/d:", autoescape=True),
            table.c.cause.endswith(f"/{key[1]}/{key[0]}", autoescape=True),
            sa.or_(table.c.state != "closed", table.c.updated_ms >= since_ms),
        )
    ).scalars()
    return {cause.split("/", 4)[2]: cause for cause in causes}


def _hang(
    connection: sa.Connection,
    version: Version,
    subject: str,
    key: troubles.Key,
    single: Mapping[str, str],
) -> None:
    """Let the alerts of the group's devices stand under its own, and that under a drift's."""
    cause = cause_of(version.published.digest, key)
    alerts.release(connection, cause)
    for device, own in single.items():
        if subject == FLEET or subject in version.members.get(device, ()):
            alerts.put_under(connection, own, cause)
    drift = peers.rollup_cause(version.published.digest, key[0])
    drifted = bool(key[0]) and drift in alerts.causes(connection, drift)
    alerts.put_under(connection, cause, drift if drifted else "")


def _raise(  # noqa: PLR0917 - all of it is what an alert says
    connection: sa.Connection,
    version: Version,
    subject: str,
    one: Trouble,
    history: list[Kept],
    now_ms: int,
) -> None:
    published, finding = version.published, one.finding
    scope = shown_subject(subject)
    where = "all devices together" if subject == FLEET else f"{scope} together"
    found = verdict.reached(
        verdict.DATA,
        digest=published.digest,
        profile_id=published.profile_id,
        subject=subject,
        feature=finding.feature,
        inputs=[verdict.Input(kept.start_ms, kept.key, kept.end_ms, kept.rows) for kept in history],
        policy=version.policy(subject),
        thresholds=data.thresholds(version.policy(subject)),
        figures=troubles.figures(one),
    )
    alerts.raise_alert(
        connection,
        alerts.NewAlert(
            cause=cause_of(published.digest, (finding.feature, finding.kind)),
            at_ms=history[-1].start_ms,
            kind="data",
            severity=finding.level,  # type: ignore[arg-type]  # "warn" or worse
            message=f"data of {published.name} {published.version} on {where}: {finding.message}",
            model=published.name,
            version=published.version,
            feature=finding.feature,
            scope=scope,
            evidence=found.evidence(),
        ),
        now_ms,
    )
