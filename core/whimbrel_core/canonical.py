"""The one way in which structures become bytes that are hashed or signed."""

from __future__ import annotations

import msgspec

_ENCODER = msgspec.json.Encoder(order="sorted")


def canonical_json(value: object) -> bytes:
    """Return ``value`` as JSON with sorted keys and no white space: equal values, equal bytes."""
    return _ENCODER.encode(value)
