"""What is wrong with data is told when it lasts, and not told when it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from whimbrel_core.profile.drift.findings import Finding
from whimbrel_server.domain.troubles import Inspected, troubles

if TYPE_CHECKING:
    from whimbrel_core.profile.drift.levels import State


def stuck(level: State = "severe", feature: str = "temp") -> Finding:
    return Finding(
        feature=feature, kind="stuck", share=0.97, usual=0.01, level=level, message="stuck"
    )


STUCK, FINE = Inspected((stuck(),)), Inspected(())
FEW = Inspected((), enough=False)


def told(*windows: Inspected, before: bool = False) -> list[str]:
    known = {("temp", "stuck")} if before else set()
    return [one.finding.feature for one in troubles(windows, known, confirm=2, calm=3)]


@pytest.mark.parametrize(
    ("windows", "before", "expected"),
    [
        ([STUCK], False, False),
        ([STUCK, STUCK], False, True),
        ([STUCK, FINE, STUCK], False, False),
        ([STUCK, FEW, STUCK], False, True),  # too few rows neither prove nor disprove
        ([STUCK, FINE, FINE], True, True),  # it was told, and is not gone for long enough
        ([STUCK, FINE, FINE, FINE], True, False),
        ([STUCK, FINE, FINE, FEW, FEW], True, True),
        ([FINE, FINE, FINE], True, False),
        ([], True, False),
    ],
)
def test_it_takes_some_windows_to_be_told_and_some_to_be_over(
    windows: list[Inspected], before: bool, expected: bool
) -> None:
    assert told(*windows, before=before) == (["temp"] if expected else [])


def test_a_notice_is_not_told() -> None:
    notice = Inspected((stuck("notice"),))
    assert told(notice, notice, notice) == []


def test_the_worst_is_first() -> None:
    both = Inspected((stuck("warn", "wind"), stuck("severe", "temp")))
    assert told(both, both) == ["temp", "wind"]
