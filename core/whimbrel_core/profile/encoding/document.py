"""Structures as files: magic, then msgpack, read back within limits."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from whimbrel_core.errors import ProfileError

T = TypeVar("T")


def read(data: bytes, kind: type[T], *, magic: bytes, limit: int, what: str, hint: str) -> T:
    """Return the structure in ``data``; whether its parts fit each other is the caller's to check.

    Args:
        data: bytes that nobody vouches for.
        kind: of the structure.
        magic: what it begins with.
        limit: most bytes.
        what: it is called in messages: "baseline".
        hint: what to do about another format.

    Raises:
        ProfileError: another format, beyond the limit, or damaged.
    """
    if len(data) > limit:
        raise ProfileError(
            f"a {what} of {len(data)} bytes is above the limit of {limit}",
            code="profile.too_large",
        )
    if data[: len(magic)] != magic:
        raise ProfileError(
            f"these {len(data)} bytes are not a {what} of format 1",
            hint=hint,
            code="profile.version",
        )
    try:
        return msgspec.msgpack.decode(data[len(magic) :], type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProfileError(f"a {what} is damaged: {error}") from None
