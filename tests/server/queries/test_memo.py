"""Answers are made anew when, and only when, what they are made of has changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from whimbrel_server.queries.memo import Memo

rows = st.lists(st.binary(max_size=4), max_size=4)


@given(rows, rows)
def test_an_answer_holds_for_its_rows_alone(first: list[bytes], second: list[bytes]) -> None:
    memo: Memo[list[bytes]] = Memo(8)
    assert memo.get(("sum",), first, lambda: first) == first
    assert memo.get(("sum",), second, lambda: second) == second
    made: list[bytes] = []
    assert memo.get(("sum",), first, lambda: made) == first
    assert memo.get(("another",), first, lambda: made) is made


def test_the_answers_used_last_are_kept() -> None:
    memo: Memo[int] = Memo(2)
    for row in (b"a", b"b", b"a", b"c"):
        memo.get((), [row], lambda row=row: row[0])  # type: ignore[misc]
    assert len(memo) == 2
    assert memo.get((), [b"a"], lambda: -1) == ord("a")
    assert memo.get((), [b"b"], lambda: -1) == -1


def test_what_fails_is_tried_again() -> None:
    memo: Memo[int] = Memo(2)
    for _ in range(2):
        try:
            memo.get((), [b"a"], lambda: 1 // 0)
        except ZeroDivisionError:
            continue
        raise AssertionError
    assert memo.get((), [b"a"], lambda: 7) == 7
