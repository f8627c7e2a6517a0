"""The laws of the update machine, over its whole table and over random histories."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_agent.update import machine
from whimbrel_agent.update.machine import TABLE, Effect, Event, Installed, Row, SlotState
from whimbrel_core.wire.assignment import Probation, SlotAssignment
from whimbrel_core.wire.messages import Phase

PHASES = get_args(Phase)
EVENTS = get_args(Event)


def assigned(digit: str, *, rows: int = 10) -> SlotAssignment:
    return SlotAssignment(f"bundles/m/m-{digit}.whim", digit * 64, 10, probation=Probation(rows))


OLD = Installed(assigned("a"), name="m", version="1.0.0", release=1, parity_passed=True)
NEW = Installed(assigned("b"), name="m", version="2.0.0", release=2, parity_passed=True)


def state(phase: Phase) -> SlotState:
    """Return a typical state of each phase, moving from OLD to NEW."""
    base = SlotState("s", phase, wanted=NEW.assignment, revision=2, current=OLD, committed=True)
    replace = msgspec.structs.replace
    if phase == "empty":
        return replace(base, current=None, committed=False)
    if phase in {"fetching", "probing", "switching"}:
        return replace(base, candidate=NEW)
    if phase == "watching":
        return replace(base, current=NEW, previous=OLD, committed=False)
    return base


def test_every_phase_can_be_left_and_every_row_names_known_things() -> None:
    assert {phase for phase, _ in TABLE} == set(PHASES)
    for (phase, event), row in TABLE.items():
        assert event in EVENTS
        assert row.phase in PHASES
        assert set(row.effects) <= set(get_args(Effect))
        assert row.move in get_args(machine.Move)
        assert machine.step(state(phase), event)[1][: len(row.effects)] == row.effects


def test_every_event_and_effect_is_used() -> None:
    assert {event for _, event in TABLE} == set(EVENTS)
    assert {effect for row in TABLE.values() for effect in row.effects} == set(get_args(Effect))


def test_late_news_change_nothing() -> None:
    for phase in PHASES:
        for event in EVENTS:
            if (phase, event) not in TABLE:
                before = state(phase)
                assert machine.step(before, event) == (before, ())


def test_a_swap_and_the_way_back_are_interrupted_by_no_wish() -> None:
    for phase in ("switching", "rolling_back"):
        for event in ("assigned", "withdrawn", "removed", "refused"):
            assert (phase, event) not in TABLE
        assert machine.wish(state(phase), refused=False) is None


def test_a_failed_candidate_is_quarantined_before_the_slot_goes_back() -> None:
    for (_, event), row in TABLE.items():
        if event in {"failed", "probe_refused", "switch_failed"}:
            assert row.effects[0] == "quarantine"


def test_only_a_fetched_and_probed_candidate_ever_serves() -> None:
    adopting = {key for key, row in TABLE.items() if row.move == "adopt"}
    assert adopting == {("switching", "switched"), ("switching", "switched_committed")}
    into_switching = {key for key, row in TABLE.items() if row.phase == "switching"}
    assert into_switching == {("probing", "probed"), ("switching", "retry")}
    into_probing = {
        key for key, row in TABLE.items() if row.phase == "probing" and key[0] != "probing"
    }
    assert into_probing == {("fetching", "fetched")}


def test_every_phase_has_effects_to_take_up_after_a_restart() -> None:
    for phase in PHASES:
        if phase != "empty":
            assert machine.resume(state(phase))
    # Whatever a row starts is started again when the process dies before it is done.
    for row in TABLE.values():
        waiting = [e for e in row.effects if e in {"fetch", "probe", "switch", "roll_back"}]
        for effect in waiting:
            assert effect in machine.resume(state(row.phase))


@pytest.mark.parametrize("phase", ["fetching", "probing", "switching", "rolling_back"])
def test_the_committed_version_serves_while_another_is_on_its_way(phase: Phase) -> None:
    assert machine.serving(state(phase)) == OLD


def test_a_passed_version_is_committed_and_the_one_before_is_kept() -> None:
    after, effects = machine.step(state("watching"), "passed")
    assert (after.phase, after.current, after.previous, after.committed) == (
        "serving",
        NEW,
        OLD,
        True,
    )
    assert effects == ("commit", "collect")


def test_a_failed_version_gives_way_to_the_one_before() -> None:
    after, _ = machine.step(state("watching"), "failed", code="probation.failed", reason="auc")
    assert (after.phase, after.current, after.committed) == ("rolling_back", OLD, True)
    done, _ = machine.step(after, "rolled_back")
    assert (done.phase, done.error_code) == ("failed", "probation.failed")
    assert machine.wish(done, refused=True) is None


def test_what_was_given_up_is_tried_again_only_by_a_newer_revision() -> None:
    after, _ = machine.step(state("watching"), "expired", code="probation.deadline", reason="x")
    after, _ = machine.step(after, "rolled_back")
    assert machine.wish(after, refused=False) is None
    newer = msgspec.structs.replace(after, revision=3)
    assert machine.wish(newer, refused=False) == "assigned"


def test_a_damaged_version_is_fetched_again() -> None:
    before = SlotState(
        "s", "serving", wanted=NEW.assignment, current=NEW, previous=OLD, committed=True
    )
    after, _ = machine.step(before, "damaged", code="trust.digest", reason="x")
    assert machine.serving(after) == OLD
    after, _ = machine.step(after, "rolled_back")
    assert machine.wish(after, refused=False) == "assigned"


def test_a_version_that_asks_for_nothing_is_committed_at_once() -> None:
    free = Installed(assigned("b", rows=0))
    before = msgspec.structs.replace(state("switching"), candidate=free)
    after, _ = machine.step(before, "switched_committed")
    assert (after.phase, after.committed) == ("serving", True)


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from("ab")), max_size=40))
def test_any_history_serves_a_proven_version_or_nothing(
    history: list[tuple[Event, str]],
) -> None:
    """Law 1 and 3 over histories: what serves was adopted, and "serving" means committed."""
    now = state("serving")
    proven = {OLD.digest}
    had_committed = True
    for event, wish in history:
        now = msgspec.structs.replace(now, wanted=assigned(wish), revision=now.revision + 1)
        before = now
        now, _ = machine.step(now, event, code="x" if event.endswith("ed") else "", reason="y")
        row: Row | None = TABLE.get((before.phase, event))
        if row is not None and row.move == "adopt" and before.candidate is not None:
            proven.add(before.candidate.digest)
        served = machine.serving(now)
        assert served is None or served.digest in proven
        if now.phase == "serving" and now.current is not None:
            assert now.committed
        if row is None or row.move not in {"leave", "empty", "back"}:
            # Nothing but an explicit way out ever takes a served version away.
            assert (served is not None) or not had_committed or machine.serving(before) is None
        had_committed = served is not None


def test_the_diagram_has_every_row() -> None:
    assert machine.diagram().count("-->") == len(TABLE) + 1


def test_an_unusable_version_is_not_tried_again_in_its_revision() -> None:
    before = SlotState(
        "s", "serving", wanted=NEW.assignment, revision=2, current=NEW, previous=OLD, committed=True
    )
    after, effects = machine.step(before, "unusable", code="worker.crash", reason="x")
    assert (after.phase, machine.serving(after), effects) == ("rolling_back", OLD, ("roll_back",))
    after, _ = machine.step(after, "rolled_back")
    assert (after.phase, after.left_out, after.error_code) == ("failed", NEW.digest, "worker.crash")
    assert machine.wish(after, refused=False) is None
    newer = msgspec.structs.replace(after, revision=3)
    assert machine.wish(newer, refused=False) == "assigned"
    begun, _ = machine.step(newer, "assigned")
    assert (begun.left_out, begun.error_code) == ("", "")


@pytest.mark.parametrize("phase", ["fetching", "probing", "switching"])
def test_what_is_on_its_way_is_not_given_up_for_the_version_that_became_unusable(
    phase: Phase,
) -> None:
    after, _ = machine.step(state(phase), "unusable", code="worker.crash", reason="x")
    assert (after.current, after.left_out) == (None, OLD.digest)
    after, _ = machine.step(after, "rolled_back")
    assert machine.wish(after, refused=False) == "assigned"


@pytest.mark.parametrize("event", ["passed", "failed", "expired", "damaged", "unusable"])
def test_what_is_told_of_a_probation_is_about_the_version_that_was_on_it(event: Event) -> None:
    before = SlotState("s", phase="watching", wanted=NEW.assignment, current=NEW, previous=OLD)
    after, _ = machine.step(before, event, code="c", reason="r", now_ms=1)
    assert machine.about(event, before, after) == NEW


def test_what_is_told_of_the_way_back_is_about_what_serves_again() -> None:
    before = SlotState("s", phase="watching", wanted=NEW.assignment, current=NEW, previous=OLD)
    back, _ = machine.step(before, "failed", code="c", reason="r", now_ms=1)
    after, _ = machine.step(back, "rolled_back", now_ms=2)
    assert machine.about("rolled_back", back, after) == OLD
