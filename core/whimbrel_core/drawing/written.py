"""How values are written for people: dates in UTC, counts, statistics.

Absolute dates only: what is drawn twice from the same data is the same text, and what was printed
stays true.

>>> date(1373760000000), count(1234567), stat(0.03412), stat(12.5), stat(None), percent(0.0312)
('14 Jul 2013', '1,234,567', '0.034', '12.5', '–', '3.1 %')
"""

from __future__ import annotations

import math
from datetime import datetime, timezone

NOTHING = "–"
_PLAIN_BELOW = 10.0


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
