"""The rollout table: complete, and as its laws say."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.errors import UsageError
from whimbrel_server.domain.rollout import (
    ENDED,
    EVENTS,
    OPERATOR_EVENTS,
    STATES,
    TABLE,
    Event,
    State,
    choose_waves,
    step,
)
from whimbrel_server.views.rollouts import RolloutSpec, Wave


@pytest.mark.parametrize(
    ("state", "event"), [pytest.param(*pair) for pair in itertools.product(STATES, EVENTS)]
)
def test_every_event_in_every_state_moves_is_refused_or_means_nothing(
    state: State, event: Event
) -> None:
    if (state, event) in TABLE:
        following, _ = TABLE[state, event]
        assert step(state, event) == TABLE[state, event]
        assert following in STATES
    elif event in OPERATOR_EVENTS:
        with pytest.raises(UsageError) as caught:
            step(state, event)
        assert caught.value.code == "conflict"
    else:
        assert step(state, event) is None


def test_what_ended_never_moves_again() -> None:
    assert not [pair for pair in TABLE if pair[0] in ENDED]


def test_only_a_running_rollout_assigns_a_wave() -> None:
    for (state, event), (following, effects) in TABLE.items():
        if "assign_next_wave" in effects:
            assert (state, event, following) == ("running", "wave_passed", "running")


def test_pausing_does_not_switch_safety_off() -> None:
    assert TABLE["paused", "gate_failed"] == TABLE["running", "gate_failed"]
    assert not {"wave_passed", "last_wave_passed"} & {e for s, e in TABLE if s == "paused"}


def test_whatever_restores_ends_in_going_back() -> None:
    restoring = {following for following, effects in TABLE.values() if "restore" in effects}
    assert restoring == {"rolling_back", "aborting"}
    for state in restoring:
        ends = {following for (s, _), (following, _) in TABLE.items() if s == state}
        assert ends <= {"rolled_back", "aborted", "failed"}


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_no_history_advances_after_a_failure(events: list[Event]) -> None:
    state: State = "running"
    failed = False
    for event in events:
        try:
            found = step(state, event)
        except UsageError:
            continue
        if found is None:
            continue
        state, effects = found
        assert not (failed and {"assign_next_wave", "finish_wave"} & set(effects))
        failed = failed or "restore" in effects
    assert not (failed and state == "completed")


FLEET = {
    "ewr": {"site": "nj", "kind": "hub"},
    "jfk": {"site": "ny", "kind": "hub"},
    "lga": {"site": "ny", "kind": "city"},
}


def waves(*asked: Wave) -> tuple[tuple[str, ...], ...]:
    return choose_waves(RolloutSpec(slot="s", model="m", version="1.0.0", waves=asked), FLEET)


def test_waves_are_chosen_by_name_label_percentage_and_rest() -> None:
    assert waves() == (("ewr", "jfk", "lga"),)
    assert waves(Wave(devices=("lga",)), Wave()) == (("lga",), ("ewr", "jfk"))
    assert waves(Wave(labels={"kind": "hub"}), Wave()) == (("ewr", "jfk"), ("lga",))
    assert waves(Wave(percent=34.0), Wave()) == (("ewr",), ("jfk", "lga"))
    assert waves(Wave(labels={"kind": "hub"}, percent=50.0), Wave(percent=100.0)) == (
        ("ewr",),
        ("jfk", "lga"),
    )


@pytest.mark.parametrize(
    "asked",
    [
        (Wave(devices=("nobody",)),),
        (Wave(labels={"kind": "airfield"}),),
        (Wave(), Wave()),
        (Wave(percent=101.0),),
        (Wave(percent=-1.0),),
        (Wave(devices=("lga",)), Wave(devices=("lga",))),
    ],
    ids=["unknown", "no-such-label", "nothing-left", "too-much", "negative", "twice"],
)
def test_a_wave_of_nobody_is_refused(asked: tuple[Wave, ...]) -> None:
    with pytest.raises(UsageError):
        waves(*asked)
