"""Names that cross boundaries: devices, slots, models, versions, digests.

Each has one parser here; whoever reads one from outside calls it, whoever holds the `NewType`
may rely on it. Identity is always taken from signed content, never from a file name.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from whimbrel_core.errors import InputError

DeviceId = NewType("DeviceId", str)
SlotName = NewType("SlotName", str)
ModelName = NewType("ModelName", str)
Version = NewType("Version", str)
Digest = NewType("Digest", str)
"""Lower-case hexadecimal SHA-256 (64 characters)."""
Epoch = NewType("Epoch", str)
"""16 hexadecimal digits: 64 random bits made when a device's outbox is created."""

# A device id is also an MQTT topic level, client id, user name and a certificate's common name,
# so it must be legal in all four: no '/', '+', '#', upper case or dots.
_DEVICE = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VERSION = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_EPOCH = re.compile(r"[0-9a-f]{16}")
_MAX_VERSION_CHARS = 64


def device_id(text: str) -> DeviceId:
    """Return ``text`` as a device id, or raise `InputError` with the rule."""
    return DeviceId(
        _match(_DEVICE, text, "device id", "lower-case letters, digits and '-', 3 to 63 long")
    )


def slot_name(text: str) -> SlotName:
    """Return ``text`` as a slot name, or raise `InputError` with the rule."""
    return SlotName(
        _match(_NAME, text, "slot name", "lower-case letters, digits and '._-', up to 63")
    )


def model_name(text: str) -> ModelName:
    """Return ``text`` as a model name, or raise `InputError` with the rule."""
    return ModelName(
        _match(_NAME, text, "model name", "lower-case letters, digits and '._-', up to 63")
    )


def version(text: str) -> Version:
    """Return ``text`` as a SemVer 2.0 version, or raise `InputError` with the rule."""
    if len(text) > _MAX_VERSION_CHARS:
        msg = f"version is {len(text)} characters long, {_MAX_VERSION_CHARS} are allowed"
        raise InputError(msg, code="input.version")
    return Version(_match(_VERSION, text, "version", "MAJOR.MINOR.PATCH as in SemVer, e.g. 1.4.0"))


def version_key(text: Version) -> tuple[object, ...]:
    """Return a sort key in SemVer precedence order (build metadata is ignored)."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return ((-1, -1, -1), ())
    core = tuple(int(match[i]) for i in (1, 2, 3))
    pre = match[4]
    if pre is None:
        # A release sorts after all of its pre-releases: (1,) > (0, …).
        return (core, (1,))
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split("."))
    return (core, (0, *parts))


def digest(text: str) -> Digest:
    """Return ``text`` as a SHA-256 digest, or raise `InputError` with the rule."""
    return Digest(_match(_DIGEST, text, "digest", "64 lower-case hexadecimal digits (SHA-256)"))


def epoch(text: str) -> Epoch:
    """Return ``text`` as an outbox epoch, or raise `InputError` with the rule."""
    return Epoch(_match(_EPOCH, text, "epoch", "16 lower-case hexadecimal digits"))


def sha256(data: bytes | memoryview) -> Digest:
    """Return the SHA-256 digest of ``data``."""
    return Digest(hashlib.sha256(data).hexdigest())


def _match(pattern: re.Pattern[str], text: str, what: str, rule: str) -> str:
    if pattern.fullmatch(text) is None:
        shown = repr(text)[:80]
        msg = f"{shown} is not a valid {what}"
        raise InputError(
            msg, hint=f"a {what} is made of {rule}", code=f"input.{what.replace(' ', '_')}"
        )
    return text
