"""Dedupe state: every order and every repetition of deliveries ends in the same place."""

from __future__ import annotations

import random  # noqa: TC003 - hypothesis reads annotations

from hypothesis import given
from hypothesis import strategies as st

from whimbrel_server.domain.streams import MAX_RANGES, Stream, StreamState

deliveries = st.lists(st.integers(1, 60), max_size=120)


def held(stream: Stream) -> set[int]:
    state = stream.state
    beyond = {seq for low, high in state.ranges for seq in range(low, high + 1)}
    return set(range(1, state.upto + 1)) | beyond


@given(deliveries)
def test_it_holds_exactly_what_was_delivered_and_says_what_was_new(seqs: list[int]) -> None:
    stream, seen = Stream(StreamState()), set[int]()
    for seq in seqs:
        assert (seq in stream) == (seq in seen)
        assert stream.add(seq) == (seq not in seen)
        seen.add(seq)
    assert held(stream) == seen
    assert stream.highest == max(seen, default=0)
    assert stream.missing == stream.highest - len(seen)


@given(deliveries, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(seqs: list[int], rng: random.Random) -> None:
    one, other = Stream(StreamState()), Stream(StreamState())
    for seq in seqs:
        one.add(seq)
    again = seqs * 2
    rng.shuffle(again)
    for seq in again:
        other.add(seq)
    assert one.state == other.state


@given(deliveries)
def test_ranges_are_disjoint_ascending_and_do_not_touch(seqs: list[int]) -> None:
    stream = Stream(StreamState())
    for seq in seqs:
        stream.add(seq)
    end = stream.state.upto
    for low, high in stream.state.ranges:
        assert end + 1 < low <= high
        end = high


@given(deliveries, deliveries)
def test_a_stored_state_goes_on_where_it_was(first: list[int], second: list[int]) -> None:
    whole = Stream(StreamState())
    for seq in first + second:
        whole.add(seq)
    before = Stream(StreamState())
    for seq in first:
        before.add(seq)
    after = Stream(before.state)
    for seq in second:
        after.add(seq)
    assert after.state == whole.state


def test_a_stream_of_holes_is_bounded_and_still_takes_what_fills_them() -> None:
    stream = Stream(StreamState())
    for i in range(MAX_RANGES):
        assert stream.has_room(3 + 2 * i)
        stream.add(3 + 2 * i)
    assert not stream.has_room(10_000)
    assert stream.has_room(1)
    assert stream.has_room(4)
    assert stream.has_room(3)
    stream.add(1)
    stream.add(2)
    assert stream.state.upto == 3
    assert stream.has_room(10_000)
    upto, ranges = stream.ack()
    assert upto == 3
    assert len(ranges) == 64
