"""Numbers as bytes, compactly, and back from bytes that nobody vouches for.

- unsigned integers: LEB128 varints; signed ones are zigzagged first;
- rows of counts: the narrowest of 1, 2, 4 or 8 bytes that holds the largest count;
- rows of floats: IEEE 754, 8 bytes.

Rows are written as byte planes (all low bytes, then all next bytes, …): as small as varints once
deflated, because the high planes of counts and the low planes of rounded sums are nearly empty,
and read in C instead of in a Python loop.

A `Reader` raises `ProfileError` for whatever it cannot read: it never returns less than asked.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_COUNT = 1 << 53  # counts stay exact in float64 and in JSON
_MAX_VARINT_BITS = 63
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Writer:
    """Collects packed numbers. ``bytes(writer.buffer)`` is the result."""

    __slots__ = ("buffer",)

    def __init__(self) -> None:
        self.buffer = bytearray()

    def raw(self, data: bytes) -> None:
        """Append ``data`` as it is."""
        self.buffer += data

    def unsigned(self, number: int) -> None:
        """Append an integer in 0 … 2^63 − 1."""
        if not 0 <= number < 1 << _MAX_VARINT_BITS:
            raise ProfileError(f"{number} does not fit an unsigned 63-bit number")
        while number > 0x7F:  # noqa: PLR2004 — seven bits a byte are the format
            self.buffer.append(number & 0x7F | 0x80)
            number >>= 7
        self.buffer.append(number)

    def signed(self, number: int) -> None:
        """Append an integer in ±2^62."""
        self.unsigned(number << 1 if number >= 0 else (-number << 1) - 1)

    def reals(self, numbers: Sequence[float]) -> None:
        """Append a row of float64 numbers as byte planes."""
        packed = struct.pack(f"<{len(numbers)}d", *numbers)
        for plane in range(8):
            self.buffer += packed[plane::8]

    def cells(self, counts: Sequence[int]) -> None:
        """Append one row of counts (0 … 2^53 each): width byte, then byte planes."""
        width, planes = planes_of(counts)
        self.buffer.append(width)
        self.buffer += planes


class Reader:
    """Takes packed numbers from the front of ``data``."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, length: int) -> bytes:
        """Take ``length`` bytes."""
        end = self._at + length
        if end > len(self._data):
            raise ProfileError(
                f"a profile ends after {len(self._data)} bytes where at least {end} are needed",
                code="profile.truncated",
            )
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def byte(self) -> int:
        """Take one byte."""
        if self._at >= len(self._data):
            self.raw(1)  # refuses
        byte = self._data[self._at]
        self._at += 1
        return byte

    def unsigned(self, limit: int = (1 << _MAX_VARINT_BITS) - 1) -> int:
        """Take an unsigned varint of at most ``limit``."""
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if byte <= 0x7F:  # noqa: PLR2004 — seven bits a byte are the format
                break
            shift += 7
            if shift >= _MAX_VARINT_BITS:
                raise ProfileError("a number in a profile is longer than 63 bits")
        if number > limit:
            raise ProfileError(f"a profile holds the number {number} where {limit} is the limit")
        return number

    def signed(self) -> int:
        """Take a zigzagged varint."""
        number = self.unsigned()
        return (number >> 1) if not number & 1 else -((number + 1) >> 1)

    def reals(self, count: int, limit: float) -> tuple[float, ...]:
        """Take a row of float64 numbers of magnitude at most ``limit``."""
        numbers: tuple[float, ...] = struct.unpack(f"<{count}d", _woven(self.raw(8 * count), 8))
        require_within(numbers, limit)
        return numbers

    def cells(self, count: int) -> tuple[int, ...]:
        """Take one row of ``count`` counts."""
        return counts_of(*self.planes(count))

    def planes(self, count: int) -> tuple[int, bytes]:
        """Take one row of ``count`` counts as it is: bytes a count, and its byte planes."""
        width = self.width()
        return width, self.raw(width * count)

    def width(self) -> int:
        """Take the number of bytes a count of a row."""
        width = self.byte()
        if width not in _UNSIGNED:
            raise ProfileError(f"a row of counts has {width} bytes a count; 1, 2, 4 or 8 are known")
        return width

    def finish(self) -> None:
        """Require that nothing is left."""
        left = len(self._data) - self._at
        if left:
            raise ProfileError(f"a profile has {left} bytes after its end")


def planes_of(counts: Sequence[int]) -> tuple[int, bytes]:
    """Return bytes a count, and byte planes, of a row of counts (0 … 2^53 each)."""
    top = max(counts, default=0)
    if top > MAX_COUNT or min(counts, default=0) < 0:
        raise ProfileError(f"counts must be in 0 … 2^53, got {min(counts)} … {top}")
    if top < 1 << 8:
        return 1, bytes(counts)
    width = 2 if top < 1 << 16 else 4 if top < 1 << 32 else 8
    packed = struct.pack(f"<{len(counts)}{_UNSIGNED[width]}", *counts)
    return width, b"".join(packed[plane::width] for plane in range(width))


def counts_of(width: int, planes: bytes) -> tuple[int, ...]:
    """Return the counts of `planes_of`. Raises `ProfileError` above 2^53."""
    if width == 1:
        return tuple(planes)
    counts: tuple[int, ...] = struct.unpack(
        f"<{len(planes) // width}{_UNSIGNED[width]}", _woven(planes, width)
    )
    if width > 4 and max(counts, default=0) > MAX_COUNT:  # noqa: PLR2004 — narrower ones cannot be
        raise ProfileError("a count in a profile is above 2^53")
    return counts


def _woven(planes: bytes, width: int) -> bytes:
    count = len(planes) // width
    woven = bytearray(len(planes))
    for plane in range(width):
        woven[plane::width] = planes[plane * count : (plane + 1) * count]
    return bytes(woven)


def require_within(numbers: Sequence[float], limit: float, *, missing: bool = False) -> None:
    """Require numbers of magnitude at most ``limit``; NaN only where ``missing``."""
    for number in numbers:
        if not -limit <= number <= limit and not (missing and number != number):  # noqa: PLR0124
            raise ProfileError(f"a profile holds the number {number!r}, the limit is {limit!r}")


def require_finite(numbers: list[float]) -> list[float]:
    """Return ``numbers``, or raise `ProfileError` when one is NaN or infinite."""
    for number in numbers:
        if not math.isfinite(number):
            raise ProfileError(f"a profile holds finite sums only, got {number!r}")
    return numbers
