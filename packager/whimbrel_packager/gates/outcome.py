"""Outcomes: what gates found, one by one, and the verdict over all of them.

The outcome itself is the manifest's `GateOutcome`: what held goes into the bundle as it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from whimbrel_core.bundle.manifest import GateOutcome, GatePart
from whimbrel_core.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Outcome: TypeAlias = GateOutcome
Part: TypeAlias = GatePart
FORMAT = 1
MAX_RECORDED = 128  # outcomes in a manifest, which every device reads
MAX_PARTS = 16
MAX_MESSAGE_CHARS = 300
_NAMED = 4
_WHOLE = 1e15  # beyond it, a float is no longer every whole number


class Verdict(msgspec.Struct, frozen=True):
    """The report on all gates: what ``--report-json`` writes.

    Args:
        format: of this report; fields are only ever added.
        name: of the model.
        version: of the bundle that was to be made.
        held: whether every gate holds.
        failed: names of those that do not.
        unjudged: names of those that could not be judged.
        machine: on which times and memory were measured.
        gates: every outcome.
    """

    format: int
    name: str
    version: str
    held: bool
    failed: tuple[str, ...]
    unjudged: tuple[str, ...]
    machine: str
    gates: tuple[Outcome, ...]

    @classmethod
    def over(cls, outcomes: Iterable[Outcome], *, name: str, version: str, machine: str) -> Verdict:
        """Return the verdict over all outcomes."""
        gates = tuple(_sound(outcome) for outcome in outcomes)
        failed = tuple(outcome.name for outcome in gates if not outcome.held)
        unjudged = tuple(outcome.name for outcome in gates if not outcome.judged)
        return cls(FORMAT, name, version, not failed, failed, unjudged, machine, gates)

    @property
    def joined(self) -> tuple[Outcome, ...]:
        """The outcomes as people count them: all checks on columns that hold are one."""
        columns = [o for o in self.gates if o.kind == "columns" and o.held and o.judged]
        if not columns:
            return self.gates
        named = {outcome.name.split(".")[1] for outcome in columns}
        message = f"{len(columns)} checks on {len(named)} columns hold"
        one = Outcome("columns", "columns", held=True, rows=columns[0].rows, message=message)
        return (one, *(outcome for outcome in self.gates if outcome not in columns))

    @property
    def recorded(self) -> tuple[Outcome, ...]:
        """The outcomes as a manifest holds them: columns joined, parts and sentences bounded."""
        return tuple(
            msgspec.structs.replace(
                outcome,
                parts=outcome.parts[:MAX_PARTS],
                message=shortened(outcome.message),
            )
            for outcome in self.joined[:MAX_RECORDED]
        )

    def require(self) -> None:
        """Raise `GateError` unless every gate holds."""
        if self.held:
            return
        wrong = [outcome for outcome in self.gates if not outcome.held]
        shown = "; ".join(f"{o.name}: {o.message}" for o in wrong[:_NAMED])
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        count = f"{len(wrong)} of {len(self.joined)} gates"
        raise GateError(
            f"{self.name}-{self.version}: {count} {'does' if len(wrong) == 1 else 'do'} not hold, "
            f"nothing was written: {shown}{more}",
            hint="mend the model or the data; a limit that is wrong is changed in the recipe, "
            "where everybody sees it",
            report=self,
        )


def limit(
    name: str, kind: str, measured: float, threshold: float, *, rule: str = "at most",
    message: str, rows: int = 0, unit: str = "", interval: tuple[float, float] | None = None,
    parts: Sequence[Part] = (),
) -> Outcome:  # fmt: skip
    """Return the outcome of a figure against its limit; a NaN never holds."""
    held = measured >= threshold if rule == "at least" else measured <= threshold
    return Outcome(
        name=name, kind=kind, held=bool(held), measured=measured,
        rule="at least" if rule == "at least" else "at most",
        threshold=threshold, interval=interval, rows=rows, unit=unit, message=message,
        parts=tuple(parts),
    )  # fmt: skip


def refused(name: str, kind: str, message: str, rows: int = 0) -> Outcome:
    """Return the outcome of a gate that fails without a figure."""
    return Outcome(name, kind, held=False, message=message, rows=rows)


def unjudged(name: str, kind: str, message: str, rows: int = 0) -> Outcome:
    """Return the outcome of a gate that could not be judged, and stops nothing."""
    return Outcome(name, kind, held=True, judged=False, message=message, rows=rows)


def number(value: float, digits: int = 4) -> str:
    """Return a figure for people: four significant digits, no exponent where it can be avoided.

    >>> number(0.123456), number(1234567.0), number(0.5), number(float("nan"))
    ('0.1235', '1,234,567', '0.5', 'nan')
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 10 ** (digits - 1) and abs(value) < _WHOLE:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def between(interval: tuple[float, float] | None, confidence: float) -> str:
    """Return `` (95 %: 0.61 to 0.69)``, or nothing."""
    if interval is None:
        return ""
    low, high = (number(end, 3) for end in interval)
    return f" ({confidence * 100:g} %: {low} to {high})"


def shortened(text: str, chars: int = MAX_MESSAGE_CHARS) -> str:
    """Return a sentence that is at most so long."""
    return text if len(text) <= chars else text[: chars - 1] + "…"


def named(words: Sequence[str], count: int = 5) -> str:
    """Return the first names for a sentence: ``a, b and 3 more``."""
    if len(words) <= count:
        return ", ".join(words)
    return f"{', '.join(words[:count])} and {len(words) - count} more"


def _sound(outcome: Outcome) -> Outcome:
    """Return the outcome as JSON can hold it: figures rounded, and None for what is no number."""
    return msgspec.structs.replace(
        outcome,
        measured=_rounded(outcome.measured),
        # 0 and 0.0 are written otherwise, and read as the same.
        threshold=None if outcome.threshold is None else float(outcome.threshold),
        interval=_both(outcome.interval),
        parts=tuple(
            msgspec.structs.replace(
                part, measured=_rounded(part.measured), interval=_both(part.interval)
            )
            for part in outcome.parts
        ),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _both(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = _rounded(interval[0]), _rounded(interval[1])
    return None if low is None or high is None else (low, high)
