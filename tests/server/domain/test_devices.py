"""Births and deaths in whatever order the broker delivers them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.wire.messages import Life, State
from whimbrel_server.domain.devices import (
    Notice,
    Presence,
    accepts_state,
    apply_life,
    changed,
    is_silent,
    next_revision,
    waiting,
)
from whimbrel_server.domain.streams import Stream, StreamState

A, B = "00000000000000aa", "00000000000000bb"


def birth(incarnation: int, epoch: str = A) -> Life:
    return Life("ewr", alive=True, incarnation=incarnation, epoch=epoch)


def death(incarnation: int) -> Life:
    return Life("ewr", alive=False, incarnation=incarnation)


def after(*lives: Life) -> tuple[Presence, tuple[str, ...]]:
    presence = Presence()
    notices: tuple[Notice, ...] = ()
    for at, life in enumerate(lives):
        presence, notices = apply_life(presence, life, at)
    return presence, notices


@pytest.mark.parametrize(
    ("lives", "online", "last"),
    [
        ((birth(1),), True, ("born",)),
        ((birth(1), death(1)), False, ("died",)),
        ((birth(1), birth(2), death(1)), True, ("stale",)),
        ((birth(2), birth(1)), True, ("stale",)),
        ((birth(1), death(1), death(1)), False, ("stale",)),
        ((death(1),), False, ("stale",)),
        ((birth(1), death(1), birth(1)), True, ("born",)),
        ((birth(5), birth(1, B)), True, ("born", "reimaged")),
        ((birth(1), birth(2, B)), True, ("born", "new_outbox")),
        ((birth(1), birth(2, B), birth(3, A)), True, ("born", "cloned")),
    ],
)
def test_lives(lives: tuple[Life, ...], online: bool, last: tuple[str, ...]) -> None:
    presence, notices = after(*lives)
    assert (presence.online, notices) == (online, last)


@given(
    st.integers(0, 30),
    st.integers(0, 30),
    st.sets(st.integers(1, 80), max_size=80),
    st.integers(0, 20),
)
def test_what_waits_is_what_waited_less_what_was_committed_since(
    sent: int, unsent: int, committed: set[int], before: int
) -> None:
    first = before + 1
    life = msgspec.structs.replace(
        birth(1), outbox_rows=sent + unsent, outbox_first=first, outbox_last=before + sent
    )
    presence, _ = after(life)
    stream = Stream(StreamState())
    for seq in committed:
        stream.add(seq)
    left = set(range(first, first + sent + unsent)) - committed
    assert waiting(presence, stream) == len(left)


def test_a_device_that_tells_no_numbers_is_believed() -> None:
    presence, _ = after(msgspec.structs.replace(birth(1), outbox_rows=7))
    assert waiting(presence, Stream(StreamState(upto=100))) == 7


def test_a_state_of_an_earlier_incarnation_is_old() -> None:
    presence, _ = after(birth(4))
    assert accepts_state(presence, State("ewr", 4, 0))
    assert not accepts_state(presence, State("ewr", 3, 0))


def test_a_revision_is_above_our_own_and_above_what_was_seen() -> None:
    assert next_revision(0, 0) == 1
    assert next_revision(7, 3) == 8
    assert next_revision(3, 7) == 8


def test_silence_is_measured_from_the_last_sign() -> None:
    assert not is_silent(None, 10_000, 1.0)
    assert not is_silent(9_000, 10_000, 1.0)
    assert is_silent(8_999, 10_000, 1.0)


def test_what_is_another_on_a_device_is_named_and_a_first_birth_changes_nothing() -> None:
    first, _ = after(Life("ewr", alive=True, incarnation=1, epoch=A, agent_version="0.1.0"))
    assert changed(Presence(), first, None, {"site": "ny"}) == {}
    told = Life(
        "ewr", alive=True, incarnation=2, epoch=A, agent_version="0.1.0", clock="synced", config="b"
    )
    second, _ = apply_life(first, told, 2)
    assert changed(first, second, {}, {"site": "ny"}) == {
        "clock": "unsynced → synced",
        "labels": "none → site=ny",
    }
    third, _ = apply_life(second, msgspec.structs.replace(told, incarnation=3, config="c"), 3)
    assert changed(second, third, {}, {}) == {"configuration": "b → c"}
