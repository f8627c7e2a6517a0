"""Findings of many devices made again: of the fleet or a cohort, from states and merged counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tests.server.jobs.test_groups import DAY_MS, SHORT, START_MS
from tests.server.tampering import changed
from whimbrel_core.profile import flat
from whimbrel_core.profile.watching.alarms import Position, SubjectState
from whimbrel_server.store import schema

if TYPE_CHECKING:
    from tests.server.jobs.test_groups import Books
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.verdicts import ReplayView


def top(books: Books) -> AlertView:
    return next(one for one in books.fleet.alerts() if one.scope and one.feature == "x0")


def replayed(books: Books) -> ReplayView:
    return books.fleet.replay(top(books).id)


def test_a_cohorts_drift_is_the_same_again_with_all_its_figures_and_after_a_restart(
    many: Books,
) -> None:
    alert = top(many)
    assert alert.scope == "site=ewr"
    assert alert.evidence["subject"] == "c:site=ewr"
    found = replayed(many)
    # Sixteen periods of the cohort, and of the fleet that it is held against.
    assert (found.outcome, found.windows, found.recounted) == ("same", 12, 32), found
    assert "12 devices from their detectors' states, and 32 periods of theirs together" in (
        found.sentence
    )
    many.again(SHORT)
    assert replayed(many).outcome == "same"


def test_a_group_s_counts_that_were_changed_are_found(many: Books) -> None:
    table = schema.aggregates
    of_day = sa.and_(
        table.c.subject == "c:site=ewr",
        table.c.step == "day",
        table.c.bucket_ms == START_MS + 12 * DAY_MS,
    )
    with changed(many, table, of_day) as (rows, put):
        window = flat.decode(rows[0]["payload"])
        cells = window.counts[: window.sizes[0]]
        cells[cells.argmax()] -= 2
        cells[cells.argmin()] += 2
        rows[0]["payload"] = flat.encode(window)
        put(rows)
        found = replayed(many)
    assert found.outcome == "differs"
    assert not found.differences, "the verdict is of what was judged"
    assert found.faults
    assert found.faults[0].startswith(f"the period at {START_MS + 12 * DAY_MS}: ")


def test_a_judged_period_that_was_changed_shows_in_figures_and_counts(many: Books) -> None:
    table = schema.judgements
    of_day = sa.and_(
        table.c.subject == "c:site=ewr", table.c.start_ms.in_([START_MS + 15 * DAY_MS])
    )
    earlier = sa.and_(table.c.subject == "c:site=ewr", table.c.start_ms == START_MS + 2 * DAY_MS)
    with changed(many, table, earlier) as (quiet, _), changed(many, table, of_day) as (rows, put):
        rows[0]["payload"] = quiet[0]["payload"]
        put(rows)
        found = replayed(many)
    assert found.outcome == "differs"
    assert "psi" in {one.figure for one in found.differences}


def test_once_a_device_is_in_another_cohort_the_finding_cannot_be_made_again(many: Books) -> None:
    many.fleet.label_device("d12", {"site": "ewr"}, "operator")
    try:
        found = replayed(many)
    finally:
        many.fleet.label_device("d12", {"site": "jfk"}, "operator")
    assert found.outcome == "incomplete"
    assert "one of them was labelled otherwise" in found.sentence
    assert replayed(many).outcome == "same"


def test_a_finding_from_before_the_newest_windows_cannot_be_made_again(many: Books) -> None:
    table = schema.detectors
    with changed(many, table, table.c.subject == "d:d12") as (rows, put):
        state = msgspec.msgpack.decode(rows[0]["payload"], type=SubjectState)
        newest = Position(state.newest.start_ms + DAY_MS, state.newest.key)
        after = msgspec.structs.replace(state, newest=newest)
        rows[0]["payload"] = msgspec.msgpack.encode(after)
        put(rows)
        found = replayed(many)
    assert found.outcome == "incomplete"
    assert "windows of its devices came since" in found.sentence
