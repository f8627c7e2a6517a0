"""Findings of many devices together, as views: roll-ups, and devices unlike the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_server.domain import announcements, outliers, standing
from whimbrel_server.queries.models import require
from whimbrel_server.store import peers
from whimbrel_server.views.groups import (
    DriftingView,
    GatheredView,
    GroupsView,
    OutlierView,
    RollupView,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_server.domain.outliers import Outlier
    from whimbrel_server.domain.rollups import Rollup
    from whimbrel_server.repository import Published, Repository

_GRAVITY = ("severe", "warn", "notice")


def groups(
    connection: sa.Connection,
    repository: Repository,
    name: str,
    version: str | None,
) -> GroupsView:
    """Return what the devices of one version (or of all of a model's) show together, worst first."""
    require(repository, name, version)
    rolled: list[RollupView] = []
    unlike: list[OutlierView] = []
    for published in repository.published():
        if published.name != name or version not in {None, published.version}:
            continue
        drifted = set()
        for one, updated_ms in peers.rollups_of(connection, published.digest):
            rolled.append(_rollup(one, published, updated_ms))
            drifted |= {(device, one.feature) for device in one.names}
        period = peers.newest_period(connection, published.digest)
        if period is None:
            continue
        # What has drifted is unlike the others, of course.
        unlike += [
            _outlier(one, len(period.peers(one.newest.peers)), published)
            for one in period.lasting
            if (one.newest.device, one.newest.feature) not in drifted
        ]
    rolled.sort(key=lambda one: (_GRAVITY.index(one.severity), -one.count, one.feature))
    unlike.sort(key=lambda one: (_GRAVITY.index(one.severity), -abs(one.z), one.device))
    return GroupsView(rollups=tuple(rolled), outliers=tuple(unlike))


def _rollup(one: Rollup, published: Published, updated_ms: int) -> RollupView:
    same = {
        name: getattr(one, name)
        for name in (
            "feature", "severity", "scope", "devices", "alarmed", "since_ms", "what", "log_e",
            "threshold", "psi", "w1_sd", "fleet_psi", "fleet_psi_before", "average", "hidden",
            "alert",
        )
    }  # fmt: skip
    return RollupView(
        model=published.name,
        version=published.version,
        count=len(one.drifting),
        drifting=tuple(DriftingView(**msgspec.structs.asdict(some)) for some in one.drifting),
        gathered=tuple(GatheredView(**msgspec.structs.asdict(some)) for some in one.gathered),
        message=announcements.of_rollup(one, published.name, published.version),
        updated_ms=updated_ms,
        q=standing.Q,
        **same,
    )


def _outlier(one: Outlier, compared: int, published: Published) -> OutlierView:
    newest = one.newest
    return OutlierView(
        model=published.name,
        version=published.version,
        device=newest.device,
        feature=newest.feature,
        what=newest.what,
        shift=newest.shift,
        spread=newest.spread,
        z=newest.z,
        psi=newest.psi,
        w1_sd=newest.w1_sd,
        severity=outliers.severity(newest.level),
        peers=newest.peers,
        devices=compared,
        since_ms=one.since_ms,
        periods=one.periods,
        message=announcements.of_outlier(one, compared, published.name, published.version),
    )
