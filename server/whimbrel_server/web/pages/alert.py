"""The page of one alert as a value: why, in words; how it looks; whether it can be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import WhimbrelError
from whimbrel_server.views.history import HistogramView, SeriesPoint
from whimbrel_server.views.verdicts import ExplanationView, ReplayView

if TYPE_CHECKING:
    from whimbrel_server.port import FleetPort
    from whimbrel_server.views.alerts import AlertView

_DAY_MS = 86_400_000
# Of its history so many windows are drawn.
_WINDOWS = 120


class AlertQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The page's state: whether its verdict is to be worked out again."""

    replay: str = ""


class AlertPage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    query: AlertQuery
    explanation: ExplanationView
    subject: str
    replay: ReplayView | None = None
    histogram: HistogramView | None = None
    trend: tuple[SeriesPoint, ...] = ()


def alert_page(fleet: FleetPort, number: int, query: AlertQuery) -> AlertPage:
    """Return the page of one alert.

    Raises:
        UsageError: there is no such alert.
    """
    explanation = fleet.explain(number)
    alert = explanation.alert
    subject = alert.device or alert.scope or "fleet"
    replay = None
    if query.replay and explanation.rule:
        replay = fleet.replay(number)
    histogram, trend = None, tuple[SeriesPoint, ...]()
    if alert.feature and alert.model and alert.version:
        histogram, trend = _drawn(fleet, explanation, alert, subject)
    return AlertPage(
        query=query,
        explanation=explanation,
        subject=subject,
        replay=replay,
        histogram=histogram,
        trend=trend,
    )


def _drawn(
    fleet: FleetPort, explanation: ExplanationView, alert: AlertView, subject: str
) -> tuple[HistogramView | None, tuple[SeriesPoint, ...]]:
    """Return the feature since the drift began against the reference, and its effect by window."""
    story = explanation.attribution
    since_ms = story.since_ms if story is not None else None
    try:
        series = fleet.drift_series(
            alert.model,
            alert.version,
            device=alert.device or None,
            cohort=subject if "=" in subject else None,
            feature=alert.feature,
        )
        points = series.get(alert.feature, ())[-_WINDOWS:]
        until_ms = points[-1].end_ms if points else None
        since_ms = None if since_ms is None else since_ms - since_ms % _DAY_MS
        return (
            fleet.histogram(alert.model, alert.version, subject, alert.feature, since_ms, until_ms),
            points,
        )
    except WhimbrelError:  # of a bundle or a device that is gone the words remain
        return None, ()
