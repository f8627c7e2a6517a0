"""Numbers as bytes, compactly, and back from bytes that nobody vouches for.

- unsigned integers: LEB128 varints; signed ones are zigzagged first;
- floats: mantissa and exponent as two signed varints. Exact, and short for the rounded sums and
  float32 extremes that a window holds;
- rows of cells: the narrowest of 1, 2, 4 or 8 bytes that holds the largest count, written as
  byte planes (all low bytes, then all next bytes …). As small as varints once deflated, because
  the high planes are nearly empty, and read in C instead of in a Python loop.

A `Reader` raises `ProfileError` for whatever it cannot read: it never returns less than asked.
"""

from __future__ import annotations

import math
import struct

from whimbrel_core.errors import ProfileError

MAX_COUNT = 1 << 53  # counts stay exact in float64 and in JSON
_MAX_VARINT_BITS = 63
_MANTISSA_BITS = 53
_MAX_EXPONENT = 1100
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

    def real(self, number: float) -> None:
        """Append a finite float, exactly (−0.0 becomes 0.0)."""
        if not math.isfinite(number):
            raise ProfileError(f"a profile holds finite numbers only, got {number!r}")
        fraction, exponent = math.frexp(number)
        mantissa = int(math.ldexp(fraction, _MANTISSA_BITS))
        if mantissa == 0:
            self.buffer.append(0)
            return
        zeros = (mantissa & -mantissa).bit_length() - 1
        self.signed(mantissa >> zeros)
        self.signed(exponent - _MANTISSA_BITS + zeros)

    def cells(self, counts: tuple[int, ...]) -> None:
        """Append one row of counts (0 … 2^53 each): width byte, then byte planes."""
        top = max(counts, default=0)
        if top > MAX_COUNT or min(counts, default=0) < 0:
            raise ProfileError(f"counts must be in 0 … 2^53, got {min(counts)} … {top}")
        width = 1 if top < 1 << 8 else 2 if top < 1 << 16 else 4 if top < 1 << 32 else 8
        self.buffer.append(width)
        packed = struct.pack(f"<{len(counts)}{_UNSIGNED[width]}", *counts)
        for plane in range(width):
            self.buffer += packed[plane::width]


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
        return self.raw(1)[0]

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

    def real(self, limit: float = math.inf) -> float:
        """Take a finite float of magnitude at most ``limit``."""
        mantissa = self.signed()
        if mantissa == 0:
            return 0.0
        exponent = self.signed()
        if abs(mantissa) > 1 << _MANTISSA_BITS or abs(exponent) > _MAX_EXPONENT:
            raise ProfileError("a float in a profile is out of range")
        try:
            number = math.ldexp(mantissa, exponent)
        except OverflowError:
            raise ProfileError("a float in a profile is out of range") from None
        if abs(number) > limit:
            raise ProfileError(f"a profile holds the number {number!r}, the limit is {limit!r}")
        return number

    def cells(self, count: int) -> tuple[int, ...]:
        """Take one row of ``count`` counts."""
        width = self.byte()
        if width not in _UNSIGNED:
            raise ProfileError(f"a row of counts has {width} bytes a count; 1, 2, 4 or 8 are known")
        packed = self.raw(width * count)
        if width > 1:
            woven = bytearray(len(packed))
            for plane in range(width):
                woven[plane::width] = packed[plane * count : (plane + 1) * count]
            packed = bytes(woven)
        counts: tuple[int, ...] = struct.unpack(f"<{count}{_UNSIGNED[width]}", packed)
        if width > 4 and max(counts, default=0) > MAX_COUNT:  # noqa: PLR2004 — narrower ones cannot be
            raise ProfileError("a count in a profile is above 2^53")
        return counts

    def finish(self) -> None:
        """Require that nothing is left."""
        left = len(self._data) - self._at
        if left:
            raise ProfileError(f"a profile has {left} bytes after its end")
