"""Messages from the broker, sorted out: what is stored, what is refused, what is only counted.

Pure: the registry of devices and bundles is asked through `Known`. The policy:

- unreadable (topic, size, encoding, another device's name inside): counted, never acknowledged,
  since nothing in it says which row of which outbox it is;
- from a device that is not enrolled: counted, not acknowledged, so that its outbox keeps the rows
  until it is enrolled;
- readable, but unusable (a bundle that was never published, another profile than the bundle's, a
  payload that is no profile): recorded as refused, with its bytes, and acknowledged: one bad row
  must not block a device's outbox for ever.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from whimbrel_core.errors import WhimbrelError, WireError
from whimbrel_core.profile import flat
from whimbrel_core.profile.flat import FlatWindow
from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.messages import EventMessage, Life, State, WindowMessage

_LEAVES: dict[str, type[Life | State | WindowMessage | EventMessage]] = {
    "life": Life,
    "state": State,
    "window": WindowMessage,
    "event": EventMessage,
}
# The longest period that one window may claim. Merging in a full outbox makes them long, but a
# year's window is a wrong clock.
_MAX_PERIOD_MS = 366 * 86_400_000


class Incoming(msgspec.Struct, frozen=True):
    """One message as the broker delivered it."""

    topic: str
    payload: bytes
    at_ms: int


class Known(Protocol):
    """What sorting needs to know of the fleet."""

    def is_enrolled(self, device: str) -> bool:
        """Return whether messages of ``device`` are accepted."""

    def profile_of(self, digest: str) -> str | None:
        """Return the profile id of a published bundle, or None when none has this digest."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a readable message was not used."""

    code: str
    message: str


class Row(msgspec.Struct, frozen=True):
    """One row of an outbox: a window or an event, its bytes, and why it is refused, if it is.

    ``window``: what the payload of a window that is not refused holds.
    """

    message: WindowMessage | EventMessage
    payload: bytes
    at_ms: int
    refusal: Refusal | None = None
    window: FlatWindow | None = None


class Batch(msgspec.Struct):
    """What one batch of messages holds, in the order of arrival."""

    rows: list[Row]
    lives: list[tuple[Life, int]]
    states: list[tuple[State, int]]
    unreadable: dict[str, int]
    strangers: dict[str, int]


def sort(messages: list[Incoming], known: Known) -> Batch:
    """Sort ``messages`` into a `Batch`. ``unreadable`` counts by device ("" for no device)."""
    batch = Batch([], [], [], {}, {})
    for incoming in messages:
        device = ""
        try:
            device, leaf = topics.parse_up(incoming.topic)
            message = codec.decode(_LEAVES[leaf], incoming.payload)
            _require_sender(message.device, device)
        except WireError:
            # A topic of an unknown device must not let anybody grow our books.
            name = device if device and known.is_enrolled(device) else ""
            batch.unreadable[name] = batch.unreadable.get(name, 0) + 1
            continue
        if not known.is_enrolled(device):
            batch.strangers[device] = batch.strangers.get(device, 0) + 1
        elif isinstance(message, Life):
            batch.lives.append((message, incoming.at_ms))
        elif isinstance(message, State):
            batch.states.append((message, incoming.at_ms))
        elif isinstance(message, WindowMessage):
            found = _opened(message, known)
            row = (
                Row(message, incoming.payload, incoming.at_ms, refusal=found)
                if isinstance(found, Refusal)
                else Row(message, incoming.payload, incoming.at_ms, window=found)
            )
            batch.rows.append(row)
        elif isinstance(message, EventMessage):
            batch.rows.append(Row(message, incoming.payload, incoming.at_ms))
    return batch


def _require_sender(claimed: str, device: str) -> None:
    if claimed != device:
        raise WireError(f"a message of {device} claims to be of {claimed!r}", code="wire.device")


def _opened(message: WindowMessage, known: Known) -> FlatWindow | Refusal:
    title = f"window {message.seq} of {message.name}-{message.version}"
    profile_id = known.profile_of(message.digest)
    if profile_id is None:
        return Refusal(
            "window.unknown_bundle", f"{title}: no bundle {message.digest[:12]}… is published"
        )
    if profile_id != message.profile_id:
        return Refusal(
            "window.profile",
            f"{title}: profile {message.profile_id[:12]}… is not the bundle's {profile_id[:12]}…",
        )
    if message.end_ms - message.start_ms > _MAX_PERIOD_MS:
        return Refusal("window.period", f"{title}: its period is longer than a year")
    try:
        window = flat.decode(message.payload)
    except WhimbrelError as error:
        return Refusal("window.payload", f"{title}: {error.message}")
    said = (message.profile_id, message.start_ms, message.end_ms, message.rows)
    holds = (window.profile_id, window.start_ms, window.end_ms, window.rows)
    if said != holds:
        return Refusal("window.payload", f"{title}: says {said[1:]}, its payload {holds[1:]}")
    return window
