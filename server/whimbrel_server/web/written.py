"""How values are written for people: dates in UTC, durations, counts, bytes, statistics.

Absolute dates only: a page that is rendered twice from the same data is the same text, so that
its ETag holds, and a page that was printed stays true. The browser adds "3 min ago" where there
is JavaScript.

>>> date(1373760000000), moment(1373760000000), count(1234567), size(1_572_864)
('14 Jul 2013', '14 Jul 2013 00:00', '1,234,567', '1.5 MB')
>>> stat(0.03412), stat(12.5), stat(None), percent(0.0312)
('0.034', '12.5', '–', '3.1 %')
"""

from __future__ import annotations

import math

from whimbrel_core.drawing.written import (
    NOTHING,
    count,
    date,
    duration,
    moment,
    percent,
    stat,
    when,
)

__all__ = [
    "NOTHING",
    "count",
    "date",
    "duration",
    "iso",
    "latency",
    "measured",
    "moment",
    "month",
    "percent",
    "period",
    "pvalue",
    "short",
    "size",
    "stat",
    "when",
]

_DAY_S = 86_400
_SMALL_P = 0.001
_MS_FROM_US = 10_000.0


def iso(ms: int) -> str:
    """Return RFC 3339 with seconds, for the ``datetime`` attribute and for machines."""
    return when(ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def month(ms: int) -> str:
    """Return a month, ``Jul 2013``."""
    return f"{when(ms):%b %Y}"


def period(start_ms: int, end_ms: int) -> str:
    """Return a window's period, as short as it stays unambiguous."""
    length_s = (end_ms - start_ms) / 1e3
    if length_s == _DAY_S and start_ms % (_DAY_S * 1000) == 0:
        return date(start_ms)
    if length_s < _DAY_S:
        return f"{moment(start_ms)}–{when(end_ms):%H:%M}"
    return f"{date(start_ms)} – {date(end_ms - 1)}"


def size(value: float | None) -> str:
    """Return bytes in binary steps with the unit people read (1 MB = 1,048,576 bytes)."""
    if value is None:
        return NOTHING
    amount = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(amount) < 1024 or unit == "GB":  # noqa: PLR2004 - the step of the units
            digits = 0 if unit == "B" or amount == round(amount) else 1
            return f"{amount:,.{digits}f} {unit}"
        amount /= 1024
    raise AssertionError


def measured(value: float | None) -> str:
    """Return a measured value of a gate: whole numbers as counts, others as statistics."""
    if value is not None and math.isfinite(value) and abs(value) >= 1 and value == round(value):
        return count(value)
    return stat(value)


def latency(us: float | None) -> str:
    """Return a latency read off counts per power of two: two digits at most are known.

    >>> latency(377.3), latency(12_345.0), latency(None)
    ('≈ 380 µs', '≈ 12 ms', '–')
    """
    if us is None or math.isnan(us):
        return NOTHING
    value, unit = (us / 1e3, "ms") if us >= _MS_FROM_US else (us, "µs")
    digits = max(0, 1 - math.floor(math.log10(value))) if value > 0 else 0
    rounded = round(value, 1 - math.floor(math.log10(value))) if value > 0 else 0.0
    return f"≈ {rounded:,.{min(digits, 2)}f} {unit}"


def pvalue(value: float | None) -> str:
    """Return a p-value; below a thousandth only its smallness matters."""
    if value is None or math.isnan(value):
        return NOTHING
    return "< .001" if value < _SMALL_P else f"{value:.3f}"


def short(digest: str) -> str:
    """Return the first twelve digits of a digest; enough to tell two apart, as git does."""
    return digest[:12] if digest else NOTHING
