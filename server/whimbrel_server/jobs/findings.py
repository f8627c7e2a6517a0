"""What groups of devices show, told: one alert for many devices, theirs under it.

In the transaction that writes what they stand on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from whimbrel_server.domain import announcements, outliers, rollups, standing, verdict
from whimbrel_server.domain.subjects import FLEET, device_subject
from whimbrel_server.store import alerts, peers, schema

if TYPE_CHECKING:
    from whimbrel_core.profile.watching.alarms import Policy
    from whimbrel_server.domain.outliers import Outlier
    from whimbrel_server.domain.rollups import Rollup
    from whimbrel_server.jobs.groups import Found
    from whimbrel_server.repository import Published

_NAMED = 50  # devices whose names are written into an alert


def tell(
    connection: sa.Connection, found: Found, published: Published, policy: Policy, now_ms: int
) -> None:
    """Write findings down; raise, bring up to date and close their alerts."""
    digest = found.digest
    peers.save_rollups(connection, digest, found.rollups, now_ms)
    peers.save(connection, digest, found.peers)
    before = alerts.evidence_of(connection, peers.rollup_cause(digest, ""))
    told = set()
    for one in found.rollups:
        cause = peers.rollup_cause(digest, one.feature)
        if one.alert:
            told.add(cause)
            _raise(connection, found, one, published, policy, before.get(cause), now_ms)
            alerts.hang(connection, f"drift/{digest}/", one.feature, cause)
        elif one.hidden and one.names:
            own = f"drift/{digest}/{device_subject(one.names[0])}/{one.feature}"
            alerts.add_to_message(connection, own, announcements.hidden(one.fleet_psi))
    for cause in before.keys() - told:
        alerts.close(connection, cause, now_ms)
        alerts.hang(connection, f"drift/{digest}/", cause.split("/", 2)[2], "")
    _tell_outliers(connection, found, published, policy, now_ms)


def _raise(  # noqa: PLR0917 - all of it is what an alert says
    connection: sa.Connection,
    found: Found,
    one: Rollup,
    published: Published,
    policy: Policy,
    before: dict[str, Any] | None,
    now_ms: int,
) -> None:
    number = len(one.drifting)
    was = None if before is None else int(before.get("figures", {}).get("told", 0))
    again = was is not None and rollups.worth_telling_again(was, number)
    figures = {
        **msgspec.structs.asdict(one),
        "drifting": one.names[:_NAMED],
        "gathered": msgspec.to_builtins(one.gathered),
        "count": number,
        "told": number if was is None or again else was,
        "q": standing.Q,
    }
    limits = policy.thresholds
    alerts.raise_alert(
        connection,
        alerts.NewAlert(
            cause=peers.rollup_cause(found.digest, one.feature),
            at_ms=found.at_ms,
            kind="drift",
            severity=one.severity,
            message=announcements.of_rollup(one, published.name, published.version),
            model=published.name,
            version=published.version,
            feature=one.feature,
            scope=one.scope,
            again=again,
            evidence=_verdict(
                connection,
                verdict.GROUP_DRIFT,
                found,
                published,
                one.scope,
                one.feature,
                policy,
                {"log_e": one.threshold, "psi_warn": limits.psi[1], "q": standing.Q},
                figures,
                {"standing": found.standing, "told_before": found.before.get(one.feature)},
            ),
        ),
        now_ms,
    )


def _tell_outliers(
    connection: sa.Connection, found: Found, published: Published, policy: Policy, now_ms: int
) -> None:
    told = set()
    for one in found.outliers:
        newest = one.newest
        cause = peers.outlier_cause(found.digest, newest.device, newest.feature)
        told.add((newest.device, newest.feature))
        own = f"drift/{found.digest}/{device_subject(newest.device)}/{newest.feature}"
        if alerts.causes(connection, own):
            # What has drifted is unlike the others, of course: that is told already.
            alerts.put_under(connection, cause, own)
            continue
        alerts.put_under(connection, cause, "")
        alerts.raise_alert(
            connection,
            alerts.NewAlert(
                cause=cause,
                at_ms=found.peers[-1].start_ms,
                kind="outlier",
                severity=outliers.severity(newest.level),
                message=announcements.of_outlier(
                    one, _compared(one, found), published.name, published.version
                ),
                device=newest.device,
                model=published.name,
                version=published.version,
                feature=newest.feature,
                evidence=_verdict(
                    connection,
                    verdict.PEERS,
                    found,
                    published,
                    newest.peers,
                    newest.feature,
                    policy,
                    {"psi_warn": policy.thresholds.psi[1], "periods": policy.confirm_windows},
                    _figures(one, found),
                    {"last_ms": found.peers[-1].start_ms, "periods": len(found.peers)},
                ),
            ),
            now_ms,
        )
    for device, feature in peers.open_outliers(connection, found.digest) - told:
        cause = peers.outlier_cause(found.digest, device, feature)
        alerts.close(connection, cause, now_ms)


def _compared(one: Outlier, found: Found) -> int:
    return len(found.peers[-1].peers(one.newest.peers))


def _figures(one: Outlier, found: Found) -> dict[str, Any]:
    newest = one.newest
    period = next(some for some in reversed(found.peers) if newest in some.standouts)
    return {
        **msgspec.structs.asdict(newest),
        "since_ms": one.since_ms,
        "periods": one.periods,
        "period_ms": period.start_ms,
        "peers_compared": len(period.peers(newest.peers)),
    }


def _verdict(  # noqa: PLR0917 - a verdict's parts
    connection: sa.Connection,
    rule: str,
    found: Found,
    published: Published,
    scope: str,
    feature: str,
    policy: Policy,
    thresholds: dict[str, float],
    figures: dict[str, Any],
    given: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a verdict that stands on the newest periods of a group."""
    subject = FLEET if scope == FLEET else f"c:{scope}"
    table = schema.judgements
    newest = connection.execute(
        sa.select(table.c.start_ms, table.c.key, table.c.end_ms, table.c.rows)
        .where(table.c.digest == found.digest, table.c.subject == subject)
        .order_by(table.c.start_ms.desc())
        .limit(verdict.MAX_WINDOWS)
    ).all()
    inputs = [verdict.Input(*row) for row in reversed(newest)]
    return verdict.reached(
        rule,
        digest=found.digest,
        profile_id=published.profile_id,
        subject=subject,
        feature=feature,
        inputs=inputs or [verdict.Input(found.at_ms, "", found.at_ms, 0)],
        policy=policy,
        thresholds=thresholds,
        figures=figures,
        given=given,
    ).evidence()
