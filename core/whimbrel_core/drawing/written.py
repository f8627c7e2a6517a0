"""How values are written for people: dates in UTC, durations, counts, statistics.

Absolute dates only: what is drawn twice from the same data is the same text, and what was printed
stays true.

>>> date(1373760000000), count(1234567), stat(0.03412), stat(12.5), stat(None), percent(0.0312)
('14 Jul 2013', '1,234,567', '0.034', '12.5', '–', '3.1 %')
"""

from __future__ import annotations

import math
from datetime import datetime, timezone

NOTHING = "–"
DAYS = "days since 1970"  # the unit of times that are profiled as numbers
DAY_MS = 86_400_000
_PLAIN_BELOW = 10.0
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def when(ms: int) -> datetime:
    """Return an instant as an aware UTC datetime, clamped to the years 1 to 9999."""
    inside = min(max(ms, -62_135_596_800_000), 253_402_300_799_000)
    return datetime.fromtimestamp(inside / 1e3, timezone.utc)


def date(ms: int | None) -> str:
    """Return a day, ``14 Jul 2013``."""
    if not ms:
        return NOTHING
    at = when(ms)
    return f"{at.day} {at:%b} {at.year}"


def moment(ms: int | None) -> str:
    """Return a minute, ``14 Jul 2013 00:00`` (UTC, which the page's footer says)."""
    return f"{date(ms)} {when(ms):%H:%M}" if ms else NOTHING


def day(days: float) -> str:
    """Return a time in days since 1970 as its day.

    >>> day(20454.5)
    '1 Jan 2026'
    """
    return date(round(days * DAY_MS)) if abs(days) < 1e7 else f"{days:g}"  # noqa: PLR2004 - a calendar's end


def count(value: float | None) -> str:
    """Return a whole number with thousands separated."""
    return NOTHING if value is None else f"{round(value):,}"


def stat(value: float | None) -> str:
    """Return a statistic with three decimals below ten, fewer above; a dash for none or NaN."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) < _PLAIN_BELOW:
        return f"{value:.3f}"
    return f"{value:,.1f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction in per cent."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value * 100:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units, ``3 h 20 min``."""
    if seconds is None:
        return NOTHING
    left = max(0, round(seconds))
    for unit_s, unit, small_s, small in (
        (_DAY_S, "d", _HOUR_S, "h"),
        (_HOUR_S, "h", _MINUTE_S, "min"),
        (_MINUTE_S, "min", 1, "s"),
    ):
        if left >= unit_s:
            rest = left % unit_s // small_s
            return f"{left // unit_s} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{left} s"
