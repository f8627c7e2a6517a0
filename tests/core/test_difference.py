"""Differences of tensors: exact, whatever the numbers mean, and refused when they do not fit."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.bundle import difference
from whimbrel_core.bundle.difference import Span
from whimbrel_core.errors import InputError

widths = st.sampled_from(difference.WIDTHS)


@given(st.data(), widths, st.integers(0, 40))
def test_adding_undoes_subtracting(data: st.DataObject, width: int, count: int) -> None:
    old, new = (data.draw(st.binary(min_size=count * width, max_size=count * width)) for _ in "ab")
    gap = difference.subtract(old, new, width)
    assert len(gap) == len(new)
    assert difference.add(old, gap, width) == new


@pytest.mark.parametrize("width", difference.WIDTHS)
def test_a_span_of_many_blocks_is_restored_in_place(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "BLOCK_BYTES", 64)
    old, new = (bytes((i * k) % 251 for i in range(8 * 50)) for k in (7, 11))
    target = bytearray(b"head" + new + b"tail")
    target[4:-4] = difference.subtract(old, new, width)
    file = io.BytesIO(bytes(target))
    difference.restore(io.BytesIO(b"xy" + old), file, [Span(4, 2, len(new), width)])
    assert file.getvalue() == b"head" + new + b"tail"


def test_spans_travel_in_front_of_the_frame() -> None:
    spans = (Span(0, 8, 4, 4), Span(10, 0, 6, 2))
    file = io.BytesIO(difference.header(spans) + b"frame")
    assert difference.read_header(file, old_length=20, length=20) == spans
    assert file.read() == b"frame"
    for plain in (b"", b"fra", b"frame of zstd"):
        file = io.BytesIO(difference.header(()) + plain)
        assert difference.read_header(file, old_length=1, length=1) == ()
        assert file.read() == plain


@pytest.mark.parametrize(
    "span",
    [
        Span(-1, 0, 4, 4),
        Span(0, -1, 4, 4),
        Span(0, 0, 0, 1),
        Span(0, 0, -4, 4),
        Span(0, 0, 5, 4),
        Span(0, 0, 3, 3),
        Span(17, 0, 4, 4),
        Span(0, 17, 4, 4),
        Span(1 << 60, 0, 4, 4),
    ],
    ids=str,
)
def test_a_span_that_fits_neither_file_is_refused(span: Span) -> None:
    with pytest.raises(InputError, match="fits neither file"):
        difference.read_header(io.BytesIO(difference.header([span])), old_length=20, length=20)


def test_spans_do_not_overlap() -> None:
    both = difference.header([Span(0, 0, 8, 4), Span(4, 0, 8, 4)])
    with pytest.raises(InputError, match="fits neither file"):
        difference.read_header(io.BytesIO(both), old_length=20, length=20)


@given(st.binary(max_size=60))
def test_a_header_of_nonsense_is_refused_or_is_none(noise: bytes) -> None:
    magic = difference.header([Span(0, 0, 1, 1)])[:4]
    with pytest.raises(InputError):
        difference.read_header(
            io.BytesIO(magic + b"\xff\xff\x00\x00" + noise), old_length=9, length=9
        )
