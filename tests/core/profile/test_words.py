"""New words: sealed by devices, readable once enough of them have met one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.privacy.words import MAX_DEVICES, Sealed, require_sound, reveal, seal

PROFILE = "ab" * 32


def told(word: str, devices: int, k: int, feature: str = "carrier") -> list[Sealed]:
    return [
        seal(word, profile_id=PROFILE, feature=feature, device=f"edge-{n}", k=k)
        for n in range(devices)
    ]


@given(st.text(min_size=1, max_size=40), st.integers(1, 7), st.randoms())
def test_k_devices_reveal_a_word_in_any_order_and_fewer_do_not(
    word: str, k: int, random: object
) -> None:
    some = told(word, k + 2, k)
    random.shuffle(some)  # type: ignore[attr-defined]
    assert reveal(some, k=k) == word.encode("utf-8", "replace").decode()
    assert reveal(some[: k - 1], k=k) is None
    for one in some:
        require_sound(one)


def test_one_device_is_one_device_however_often_it_tells() -> None:
    assert reveal(told("zz", 1, 2) * 5, k=2) is None


def test_tellings_say_which_are_of_one_word_and_nothing_else() -> None:
    first, second = told("Halden", 2, 2)
    assert first.tag == second.tag
    assert first.text == second.text
    assert first.share != second.share
    assert b"Halden" not in msgspec.msgpack.encode([first, second])
    assert told("Moss", 1, 2)[0].tag != first.tag
    assert told("Halden", 1, 2, feature="town")[0].tag != first.tag
    # Short words of any length look alike.
    assert len(told("a", 1, 2)[0].text) == len(first.text)


def test_devices_that_lie_hide_no_word_that_many_met() -> None:
    some = told("Halden", 5, 3)
    liar = msgspec.structs.replace(some[0], share=bytes(66))
    spoiled = msgspec.structs.replace(some[1], text=bytes(len(some[1].text)))
    assert reveal([liar, spoiled, *some[2:]], k=3) == "Halden"
    assert reveal([liar, *some[1:3]], k=3) is None


@pytest.mark.parametrize(("word", "k"), [("", 3), ("x" * 257, 3), ("x", 0), ("x", MAX_DEVICES + 1)])
def test_what_cannot_be_told_is_refused(word: str, k: int) -> None:
    with pytest.raises(ProfileError):
        seal(word, profile_id=PROFILE, feature="carrier", device="edge-1", k=k)


@pytest.mark.parametrize("field", ["tag", "point", "share", "text"])
def test_parts_of_other_sizes_are_refused(field: str) -> None:
    sound = told("Halden", 1, 3)[0]
    for broken in (b"", getattr(sound, field) + b"x", bytes(5000)):
        with pytest.raises(ProfileError):
            require_sound(msgspec.structs.replace(sound, **{field: broken}))
