"""What groups of devices are told of, as sentences: findings, and devices unlike the others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from whimbrel_server.domain.subjects import FLEET

if TYPE_CHECKING:
    from whimbrel_server.domain.outliers import Outlier
    from whimbrel_server.domain.rollups import Rollup


def of_rollup(one: Rollup, model: str, version: str) -> str:
    """Return a finding as a sentence: how many devices, where most of them are, since when."""
    where = "" if one.scope == FLEET else f" of {one.scope}"
    what = f"{one.feature} of {model} {version} has drifted"
    if not one.drifting:
        return f"{what} in the average of {one.devices:,} devices{where} ({_figures(one)})"
    some = (
        f"{len(one.drifting):,} of {one.devices:,} device{'' if one.devices == 1 else 's'}{where}"
    )
    gathered = " and ".join(
        f"{most.cohort} ({most.drifting:,} of {most.devices:,})" for most in one.gathered
    )
    most = f", most in {gathered}" if gathered else ""
    since = "" if one.since_ms is None else f", since {day(one.since_ms)}"
    return f"{what} on {some}{most}{since} ({_figures(one)})"


def hidden(fleet_psi: float | None) -> str:
    """Return that the fleet's average shows nothing, with what it shows.

    >>> hidden(0.00059)
    "hidden in the fleet's average: PSI 0.0006"
    """
    psi = "" if fleet_psi is None else f": PSI {fleet_psi:.4f}"
    return f"hidden in the fleet's average{psi}"


def of_outlier(one: Outlier, peers: int, model: str, version: str) -> str:
    """Return a device that is unlike its peers as a sentence."""
    newest = one.newest
    others = "the others" if newest.peers == FLEET else f"the others of {newest.peers}"
    return (
        f"{newest.feature} of {model} {version} on {newest.device} is unlike {others}: "
        f"{newest.what} {newest.shift:+.2f} sd from the rest, where {peers:,} devices differ by "
        f"{newest.spread:.2f}{_distance(newest.psi)}, since {day(one.since_ms)}"
    )


def day(at_ms: int) -> str:
    """Return a moment as people name its day.

    >>> day(1_744_416_000_000)
    '12 April 2025'
    """
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at.day} {at:%B %Y}"


def _figures(one: Rollup) -> str:
    parts = [one.what] if one.what else []
    if one.hidden:
        parts.append(hidden(one.fleet_psi))
    elif one.psi is not None:
        parts.append(f"PSI {one.psi:.2f} together")
    evidence = f"log e {one.log_e:.1f}, alarm from {one.threshold:.1f}"
    return "; ".join((", ".join(parts), evidence)) if parts else evidence


def _distance(psi: float | None) -> str:
    return "" if psi is None else f" (PSI {psi:.2f} against them)"
