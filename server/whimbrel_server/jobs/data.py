"""Alerts about the data that devices are given: a stuck sensor, missing values, unknown words.

In the transaction that writes the windows' judgements, of which they are a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from whimbrel_server.domain import troubles, verdict
from whimbrel_server.store import alerts, judgements, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from whimbrel_core.profile.watching.alarms import Policy
    from whimbrel_server.domain.troubles import Trouble
    from whimbrel_server.repository import Published
    from whimbrel_server.store.judgements import Kept

    SubjectKey = tuple[str, str]

PREFIX = "data/"
# Windows with too few rows say nothing: behind them are some that do.
WINDOWS = 12


def tell(
    connection: sa.Connection,
    touched: Iterable[SubjectKey],
    published: Callable[[str], Published | None],
    policy: Callable[[SubjectKey], Policy],
    now_ms: int,
) -> None:
    """Raise, bring up to date and close the alerts about the data of the devices that sent.

    Args:
        connection: of the transaction.
        touched: digest and subject of the devices of which windows were written.
        published: returns the bundle of a digest.
        policy: returns what holds for a device.
        now_ms: the wall clock.
    """
    open_causes = alerts.causes(connection, PREFIX)
    known: dict[SubjectKey, set[troubles.Key]] = {}
    for cause in open_causes:
        _, digest, subject, kind, feature = cause.split("/", 4)
        known.setdefault((digest, subject), set()).add((feature, kind))
    for at in touched:
        bundle, told = published(at[0]), known.get(at, set())
        if bundle is None:
            continue
        history = _newest(connection, at)
        if not told and not (history and history[-1].findings):
            continue
        rule = policy(at)
        still = set[troubles.Key]()
        for one in lasting(history, told, rule):
            still.add((one.finding.feature, str(one.finding.kind)))
            _raise(connection, at, one, history, bundle, rule, now_ms)
        for key in told - still:
            alerts.close(connection, cause_of(at, key), now_ms)


def lasting(
    history: Iterable[Kept], told: Collection[troubles.Key], policy: Policy
) -> tuple[Trouble, ...]:
    """Return what is wrong with the data of the newest windows or periods, worst first."""
    least = policy.thresholds.min_rows
    inspected = [troubles.Inspected(kept.findings, enough=kept.rows >= least) for kept in history]
    return troubles.troubles(
        inspected, told, confirm=policy.confirm_windows, calm=policy.calm_windows
    )


def thresholds(policy: Policy) -> dict[str, float]:
    """Return what a finding has to pass."""
    shares = policy.thresholds.rate
    return {
        "share_warn": shares[1],
        "share_severe": shares[2],
        "windows": policy.confirm_windows,
    }


def cause_of(at: SubjectKey, key: troubles.Key) -> str:
    """Return the cause of an alert about data."""
    return f"{PREFIX}{at[0]}/{at[1]}/{key[1]}/{key[0]}"


def _newest(connection: sa.Connection, at: SubjectKey) -> list[Kept]:
    table = schema.judgements
    payloads = connection.execute(
        sa.select(table.c.payload)
        .where(table.c.digest == at[0], table.c.subject == at[1], table.c.level == "device")
        .order_by(table.c.start_ms.desc(), table.c.key.desc())
        .limit(WINDOWS)
    ).scalars()
    return [judgements.kept_in(payload) for payload in payloads][::-1]


def _raise(  # noqa: PLR0917 - all of it is what an alert says
    connection: sa.Connection,
    at: SubjectKey,
    one: Trouble,
    history: list[Kept],
    bundle: Published,
    policy: Policy,
    now_ms: int,
) -> None:
    finding, device = one.finding, at[1][2:]
    cause = cause_of(at, (finding.feature, finding.kind))
    found = verdict.reached(
        verdict.DATA,
        digest=at[0],
        profile_id=bundle.profile_id,
        subject=at[1],
        feature=finding.feature,
        inputs=[verdict.Input(kept.start_ms, kept.key, kept.end_ms, kept.rows) for kept in history],
        policy=policy,
        thresholds=thresholds(policy),
        figures=troubles.figures(one),
    )
    # What has drifted because values are missing is told once, with the drift.
    drift = f"drift/{at[0]}/{at[1]}/{finding.feature}"
    under = drift if finding.feature and drift in alerts.causes(connection, drift) else ""
    alerts.raise_alert(
        connection,
        alerts.NewAlert(
            cause=cause,
            at_ms=history[-1].start_ms,
            kind="data",
            severity=finding.level,  # type: ignore[arg-type]  # "warn" or worse
            message=f"data of {bundle.name} {bundle.version} on {device}: {finding.message}",
            device=device,
            model=bundle.name,
            version=bundle.version,
            feature=finding.feature,
            evidence=found.evidence(),
        ),
        now_ms,
    )
    alerts.put_under(connection, cause, under)
