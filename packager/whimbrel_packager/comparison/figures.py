"""Figures of quality side by side: how far they lie apart, and whether that can be chance.

Each bundle's figures are of its own held-out rows. A difference of two such figures has the
interval of two independent samples, where a standard error is known. Where the new bundle was
judged against this very old one before it was signed, there is something better: the difference on
the same rows, with its interval.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_packager.comparison.change import Change
from whimbrel_packager.quality.certainty import NOT_QUALITY, Z, standard_error
from whimbrel_packager.quality.metrics import METRICS
from whimbrel_packager.written import metric as spelled
from whimbrel_packager.written import signed, span, value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.bundle.manifest import GateOutcome, Manifest
    from whimbrel_packager.comparison.change import Level
    from whimbrel_packager.contents import Contents

_SAME_WITHIN = 1e-9
_SLIGHT = 0.01  # of the old figure: less is not worth a look without an interval


class Paired(msgspec.Struct, frozen=True):
    """By how much the new model is better on the same rows, as a gate found."""

    gain: float
    interval: tuple[float, float] | None = None


class Figure(msgspec.Struct, frozen=True):
    """One figure of quality in both bundles.

    Args:
        name: of the figure.
        old: in the old bundle; None when it has none.
        new: likewise.
        better: which way is better; "" when neither is.
        interval: of new − old (95 %), taken as figures of separate rows; None when not known.
        paired: on the same rows; None when the new bundle was not judged against the old one.
    """

    name: str
    old: float | None
    new: float | None
    better: Literal["higher", "lower", ""] = ""
    interval: tuple[float, float] | None = None
    paired: Paired | None = None

    @property
    def difference(self) -> float | None:
        """New less old."""
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def gain(self) -> float | None:
        """By how much it is better; None when neither way is."""
        if self.difference is None or not self.better:
            return None
        return self.difference if self.better == "higher" else -self.difference


def figures(old: Contents, new: Contents) -> tuple[Figure, ...]:
    """Return the figures of both bundles, in the order of the new one's."""
    a, b = old.manifest, new.manifest
    names = [name for name in (*b.metrics, *a.metrics) if name not in NOT_QUALITY]
    found = []
    for name in dict.fromkeys(names):
        known = METRICS.get(name)
        found.append(
            Figure(
                name,
                a.metrics.get(name),
                b.metrics.get(name),
                known.better if known else "",
                _apart(old, new, name),
                _paired(a, b, name),
            )
        )
    return tuple(found)


def changes(found: tuple[Figure, ...]) -> Iterator[Change]:
    """Yield figures that differ; a loss that cannot be chance is a warning."""
    for one in found:
        name = spelled(one.name)
        if one.old is None or one.new is None:
            level: Level = "notice" if one.new is None else "info"
            text = f"{name} is {'not measured any more' if one.new is None else 'measured now'}"
        elif abs(one.new - one.old) <= _SAME_WITHIN:
            continue
        else:
            level = _level(one)
            text = f"{name} {value(one.old)} → {value(one.new)}, {told(one)}"
        yield Change(level, "quality", one.name, text, *(
            "" if figure is None else value(figure) for figure in (one.old, one.new)
        ))  # fmt: skip


def told(one: Figure) -> str:
    """Return the difference in words, on the same rows where that is known."""
    if one.difference is None:
        return ""
    gain = one.gain
    way = "" if gain is None else "better " if gain > 0 else "worse " if gain < 0 else ""
    text = f"{way}by {value(abs(one.difference), 3)}" if way else signed(one.difference)
    if one.interval is not None:
        text += f" (95 %: {signed(one.interval[0])} to {signed(one.interval[1])})"
    if one.paired is not None:
        same = one.paired
        way = "better" if same.gain > 0 else "worse" if same.gain < 0 else "neither"
        text += f"; on the same rows {way} by {value(abs(same.gain), 3)}"
        text += f" ({span(same.interval)})" if same.interval else ""
    return text


def _level(one: Figure) -> Level:
    paired = one.paired
    if paired is not None and paired.interval is not None:
        return "warn" if paired.interval[1] < 0 else "info"
    if one.gain is None or one.gain >= 0:
        return "info"
    if one.interval is None:
        return "notice" if -one.gain > _SLIGHT * abs(one.old or 0.0) else "info"
    low, high = one.interval
    return "warn" if (high < 0 if one.better == "higher" else low > 0) else "info"


def _apart(old: Contents, new: Contents, name: str) -> tuple[float, float] | None:
    a, b = old.manifest.metrics.get(name), new.manifest.metrics.get(name)
    errors = [standard_error(one.manifest, one.baseline, name) for one in (old, new)]
    if a is None or b is None or errors[0] is None or errors[1] is None:
        return None
    half = Z * math.hypot(errors[0], errors[1])
    return b - a - half, b - a + half


def _paired(old: Manifest, new: Manifest, name: str) -> Paired | None:
    """Return what the gate against this very incumbent found."""
    gate = next((g for g in new.gates if g.name == f"incumbent.{name}" and g.judged), None)
    if gate is None or gate.measured is None or not _names(gate, old.title):
        return None
    return Paired(gate.measured, gate.interval)


def _names(gate: GateOutcome, title: str) -> bool:
    """Return whether a gate's sentence is about the bundle of that title."""
    return re.search(rf"(?<![\w.+-]){re.escape(title)}(?![\w.+-]*\w)", gate.message) is not None
