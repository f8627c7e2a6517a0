"""How figures, sizes and times are written on a page.

>>> value(0.719184), value(27454.0), signed(0.0098), signed(-0.25), span((0.71, 0.726))
('0.7192', '27,454', '+0.0098', '−0.25', '0.71 to 0.726')
>>> length(86_400), length(300), length(5_400), latency(19.3), latency(2_310.0)
('1 day', '5 minutes', '90 minutes', '19 µs', '2.3 ms')
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from whimbrel_core.drawing.written import count, percent
from whimbrel_packager.commands.output import size
from whimbrel_packager.gates.outcome import number

if TYPE_CHECKING:
    from whimbrel_core.bundle.manifest import GateOutcome

__all__ = ["count", "latency", "length", "metric", "moment", "percent", "signed", "size", "span",
           "value", "with_unit"]  # fmt: skip

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_MS = 1_000.0
_TEN = 10.0
_NAMES = {
    "auc": "AUC",
    "mae": "Mean absolute error",
    "rmse": "Root mean square error",
    "r2": "R²",
    "brier": "Brier score",
    "logloss": "Log loss",
    "f1": "F1",
}


def value(figure: float, digits: int = 4) -> str:
    """Return a figure with the digits that count."""
    return number(float(figure), digits).replace("-", "−") if figure < 0 else number(figure, digits)


def signed(figure: float) -> str:
    """Return a difference with its sign."""
    text = number(abs(float(figure)), 3)
    return f"+{text}" if figure > 0 else f"−{text}" if figure < 0 else "0"


def span(interval: tuple[float, float] | None) -> str:
    """Return an interval, or nothing."""
    return "" if interval is None else f"{value(interval[0], 3)} to {value(interval[1], 3)}"


def metric(name: str) -> str:
    """Return what a figure of quality is called.

    >>> metric("auc"), metric("calibration_error")
    ('AUC', 'Calibration error')
    """
    return _NAMES.get(name) or name.replace("_", " ").capitalize()


def with_unit(figure: float | None, gate: GateOutcome) -> str:
    """Return a gate's figure in its unit; "" for none."""
    if figure is None:
        return ""
    if gate.unit == "bytes":
        return size(figure)
    return f"{value(figure)} {gate.unit}".strip() if gate.unit != "share" else value(figure)


def latency(us: float) -> str:
    """Return a time that was measured: two digits count."""
    if us < _MS:
        return f"{us:.0f} µs" if us >= _TEN else f"{us:.1f} µs"
    return f"{us / _MS:.1f} ms"


def length(seconds: int) -> str:
    """Return a length of time in the largest unit in which it is a whole number."""
    unit_s, unit = next(pair for pair in _UNITS if seconds % pair[0] == 0)
    amount = seconds // unit_s
    return f"{amount:,} {unit}{'' if amount == 1 else 's'}"


def moment(text: str) -> str:
    """Return an instant for people; what is no instant stays as it is.

    >>> moment("2026-11-21T11:42:48Z"), moment("soon")
    ('21 Nov 2026, 11:42 UTC', 'soon')
    """
    try:
        at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007 - the Z is UTC
    except ValueError:
        return text
    return f"{at.day} {at:%b %Y, %H:%M} UTC"
