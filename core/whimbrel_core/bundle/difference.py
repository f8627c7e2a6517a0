"""Differences: what deltas do for weights, of which no byte is as it was and each is near it.

A delta is a zstd frame with the old bundle as dictionary. That finds bytes which are the same, and
of a fine-tuned network few are. So the frame may hold, instead of a tensor, the tensor minus the
old one: small numbers, which compress. A `Span` says where. The spans stand in front of the frame
in a skippable frame of zstd's own format, so that the file is one that every zstd reads; a reader
that does not know spans makes other bytes than were signed, and fetches the whole file.

Exact: numbers are subtracted as integers of their width, modulo 2^(8·width), whatever they mean.
Bytes of equal rank are put side by side, block by block, so that a reader needs one block at a time.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from whimbrel_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTHS = (1, 2, 4, 8)
BLOCK_BYTES = 1 << 20
MAX_SPANS = 16_384
_MAGIC = 0x184D2A57  # one of the sixteen that RFC 8878 (3.1.2) leaves to applications
_HEAD = struct.Struct("<II")
_MAX_HEADER_BYTES = 1 << 20


class Span(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Bytes of the new file that are given as their difference from bytes of the old one.

    Args:
        at: where they begin in the new file.
        old: where the others begin in the old file.
        length: how many, in bytes; a multiple of ``width``.
        width: of one number, in bytes: one of `WIDTHS`.
    """

    at: int
    old: int
    length: int
    width: int


class _Header(msgspec.Struct, frozen=True):
    spans: tuple[Span, ...]


def header(spans: Sequence[Span]) -> bytes:
    """Return what stands in front of the frame; nothing when there are no spans."""
    if not spans:
        return b""
    content = msgspec.msgpack.encode(_Header(tuple(spans)))
    return _HEAD.pack(_MAGIC, len(content)) + content


def read_header(file: BinaryIO, *, old_length: int, length: int) -> tuple[Span, ...]:
    """Return the spans of a delta, and leave ``file`` where its frame begins.

    Args:
        file: the delta, at its beginning.
        old_length: of the old file, in bytes.
        length: of the new file, in bytes.

    Raises:
        InputError: they are malformed, overlap, or reach beyond the files.
    """
    start = file.read(_HEAD.size)
    if len(start) < _HEAD.size or _HEAD.unpack(start)[0] != _MAGIC:
        file.seek(-len(start), os.SEEK_CUR)
        return ()
    size = _HEAD.unpack(start)[1]
    try:
        if size > _MAX_HEADER_BYTES:
            raise ValueError(f"{size} bytes of spans")  # noqa: TRY301 - one message
        spans = msgspec.msgpack.decode(file.read(size), type=_Header).spans
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError(f"the delta's spans are malformed: {error}", code="delta.format") from None
    end = 0
    for span in spans:
        good = (
            span.width in WIDTHS
            and span.length > 0
            and span.length % span.width == 0
            and end <= span.at <= length - span.length
            and 0 <= span.old <= old_length - span.length
        )
        if not good or len(spans) > MAX_SPANS:
            raise InputError(f"the delta's {span} fits neither file", code="delta.format")
        end = span.at + span.length
    return spans


def subtract(old: bytes, new: bytes, width: int) -> bytes:
    """Return ``new`` minus ``old``, of equal length.

    >>> add(b"abcd", subtract(b"abcd", b"bbce", 2), 2)
    b'bbce'
    """
    import numpy as np

    kind, parts = np.dtype(f"<u{width}"), []
    for start in range(0, len(new), BLOCK_BYTES):
        block = slice(start, start + BLOCK_BYTES)
        gap = np.frombuffer(new[block], kind) - np.frombuffer(old[block], kind)
        parts.append(gap.view(np.uint8).reshape(-1, width).T.tobytes())
    return b"".join(parts)


def add(old: bytes, gap: bytes, width: int) -> bytes:
    """Return the bytes whose difference from ``old`` is ``gap``; the inverse of `subtract`."""
    import numpy as np  # 20 MB of memory, for those alone whose delta has spans

    kind, parts = np.dtype(f"<u{width}"), []
    for start in range(0, len(gap), BLOCK_BYTES):
        block = slice(start, start + BLOCK_BYTES)
        planes = np.frombuffer(gap[block], np.uint8).reshape(width, -1)
        numbers = np.ascontiguousarray(planes.T).view(kind).reshape(-1)
        parts.append((numbers + np.frombuffer(old[block], kind)).tobytes())
    return b"".join(parts)


def restore(old: BinaryIO, target: BinaryIO, spans: Sequence[Span]) -> None:
    """Put into ``target`` what it holds differences of, in place, a block at a time."""
    for span in spans:
        for at, source, length in _blocks(span):
            target.seek(at)
            gap = target.read(length)
            old.seek(source)
            before = old.read(length)
            if len(gap) != length or len(before) != length:
                raise InputError(f"the delta's {span} fits neither file", code="delta.format")
            target.seek(at)
            target.write(add(before, gap, span.width))


def _blocks(span: Span) -> Iterator[tuple[int, int, int]]:
    for start in range(0, span.length, BLOCK_BYTES):
        yield span.at + start, span.old + start, min(BLOCK_BYTES, span.length - start)
