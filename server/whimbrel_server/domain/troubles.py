"""What is wrong with a device's data, told when it lasts: findings of windows, with hysteresis.

A finding (`whimbrel_core.profile.drift.findings`) is of one window. It becomes a *trouble* when as many of
the device's newest windows in a row as a drift needs have it at "warn" or worse, and is over when as
many in a row as calm a level down have not. Windows with too few rows to say say nothing.

A function of the newest windows and of what is told already: neither the order nor the repetition
of what arrives changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_core.profile.drift.findings import Finding
from whimbrel_core.profile.drift.levels import LEVELS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Key = tuple[str, str]
"""Feature ("" for the whole window) and kind."""

_WARN = LEVELS.index("warn")


class Inspected(msgspec.Struct, frozen=True):
    """The findings of one window. ``enough``: whether it has rows enough to lack findings."""

    findings: tuple[Finding, ...]
    enough: bool = True


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that lasts.

    Args:
        finding: as in the newest window that has it.
        windows: so many of the newest windows in a row have it; 0: it was in those before.
    """

    finding: Finding
    windows: int


def troubles(
    windows: Sequence[Inspected], told: Collection[Key], *, confirm: int, calm: int
) -> tuple[Trouble, ...]:
    """Return what is wrong with a device's data now, worst first.

    Args:
        windows: the newest ones, oldest first; ``max(confirm, calm)`` of them say everything.
        told: what is told already, and goes on until it is gone for ``calm`` windows.
        confirm: windows in a row until something is told.
        calm: windows in a row without it until it is over.
    """
    telling = [one for one in windows if one.enough or one.findings]
    found = []
    for key in {_key(one) for window in telling for one in window.findings}:
        having = [_grave(window, key) for window in telling]
        running = next((n for n, one in enumerate(reversed(having)) if one is None), len(having))
        lasting = running >= confirm or (key in told and any(having[-calm:]))
        newest = next((one for one in reversed(having) if one is not None), None)
        if lasting and newest is not None:
            found.append(Trouble(finding=newest, windows=running))
    return tuple(
        sorted(
            found,
            key=lambda one: (
                -LEVELS.index(one.finding.level),
                one.finding.usual - one.finding.share,
                one.finding.feature,
                one.finding.kind,
            ),
        )
    )


def figures(one: Trouble) -> dict[str, Any]:
    """Return what a verdict about data says was found."""
    return {**msgspec.structs.asdict(one.finding), "windows": one.windows}


def _key(one: Finding) -> Key:
    return one.feature, one.kind


def _grave(window: Inspected, key: Key) -> Finding | None:
    return next(
        (
            one
            for one in window.findings
            if _key(one) == key and one.level != "too_few" and LEVELS.index(one.level) >= _WARN
        ),
        None,
    )
