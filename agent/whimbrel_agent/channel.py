"""What the agent's processes say to each other, and how it is framed.

Two conversations share this vocabulary. Control and worker talk over a Unix socket pair that the
worker inherits. Whoever serves (a worker, or a `whimbrel_agent.Model` inside an application) hands
closed windows and events to control over ``<data_dir>/run/telemetry.sock``; each is answered with
`Stored` once it is committed to the outbox, and only then forgets its own copy.

A frame is four bytes of length, big endian, and one msgpack map with a ``type``. No numpy here:
control reads this in a process that must stay small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import msgspec

from whimbrel_core.errors import WireError
from whimbrel_core.wire.assignment import Probation
from whimbrel_core.wire.messages import Clock, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FRAME_BYTES = 4 << 20
_LENGTH_BYTES = 4

Verdict = Literal["pending", "passed", "failed"]


class ServingSettings(msgspec.Struct, frozen=True):
    """Limits and habits of a worker."""

    max_body_bytes: int = 4 << 20
    max_rows: int = 4096
    max_header_bytes: int = 16 * 1024
    max_connections: int = 512
    inline_us: float = 2000.0
    """A model whose single row takes longer is run in a thread, apart from the event loop."""
    lateness_s: float = 0.0
    """How long after its end an event-time window still waits for late rows."""
    idle_close_s: float = 300.0
    """Wall time after which an event-time window that nobody touches is closed."""
    label_capacity: int = 65_536
    """Predictions per slot and bundle that are remembered for labels that come later."""
    telemetry_retry_s: float = 5.0
    profiles: bool = True
    """Off: requests are answered and not counted; no windows, labels or judgements."""


class SlotSpec(msgspec.Struct, frozen=True):
    """One slot to serve: which verified file, for whom it may be signed, and how it is judged."""

    slot: str
    digest: str
    path: str
    keys: tuple[str, ...]
    mode: Mode = "active"
    probation: Probation | None = None
    device: str = ""


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Control's first frame: everything the worker needs."""

    slots: tuple[SlotSpec, ...]
    data_dir: str
    settings: ServingSettings = ServingSettings()
    incarnation: int = 0
    clock: Clock = "unsynced"


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Stop accepting, finish what is in flight, hand over the windows, answer `Drained`, exit."""

    grace_s: float = 5.0


class EndProbation(msgspec.Struct, frozen=True, tag="end_probation"):
    """The version in ``slot`` is committed: stop judging it."""

    slot: str


class SlotReady(msgspec.Struct, frozen=True):
    """One slot that answers requests now."""

    slot: str
    digest: str
    name: str
    version: str
    release: int
    load_ms: float
    first_run_us: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Every slot is loaded and has run once, and the worker accepts connections."""

    pid: int
    slots: tuple[SlotReady, ...]
    rss_bytes: int


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """A slot cannot be served. The worker has accepted nothing, and exits with code 3."""

    slot: str
    digest: str
    code: str
    message: str


class Judgement(msgspec.Struct, frozen=True, tag="judgement"):
    """How a version on probation behaves, from this device's own counts."""

    slot: str
    digest: str
    verdict: Verdict
    rows: int
    labels: int
    evidence: dict[str, float]
    reason: str


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """Nothing is in flight any more; windows that control has not stored yet are files."""


class ClosedWindow(msgspec.Struct, frozen=True, tag="window"):
    """A closed profile window; `Stored` with its ``window_id`` answers it."""

    window_id: str
    slot: str
    name: str
    version: str
    digest: str
    profile_id: str
    start_ms: int
    end_ms: int
    rows: int
    clock: Clock
    payload: bytes


class LocalEvent(msgspec.Struct, frozen=True, tag="event"):
    """Something that a serving process noticed; `Stored` with its ``event_id`` answers it."""

    event_id: str
    at_ms: int
    kind: str
    slot: str = ""
    digest: str = ""
    detail: dict[str, str] = {}


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """The window or event with this id is committed to the outbox (now, or by an earlier try)."""

    id: str


ToWorker = Start | Drain | EndProbation
FromWorker = Ready | LoadFailed | Judgement | Drained
ToTelemetry = ClosedWindow | LocalEvent
FromTelemetry = Stored

T = TypeVar("T")
_ENCODER = msgspec.msgpack.Encoder()


def encode_frame(message: msgspec.Struct) -> bytes:
    """Return ``message`` as one frame.

    Raises:
        WireError: it is larger than a frame may be; nothing was sent.
    """
    body = _ENCODER.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        msg = f"{type(message).__name__} is {len(body)} bytes, a frame holds {MAX_FRAME_BYTES}"
        raise WireError(msg, code="channel.limit")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameDecoder(Generic[T]):
    """Turns a stream of bytes, cut anywhere, into messages of one tagged union.

    >>> decoder = FrameDecoder[ToWorker](ToWorker)
    >>> frame = encode_frame(EndProbation("churn"))
    >>> list(decoder.feed(frame[:5])), list(decoder.feed(frame[5:]))
    ([], [EndProbation(slot='churn')])
    """

    def __init__(self, kind: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """Yield the messages that ``data`` completes.

        Raises:
            WireError: a frame is too long or is none of the union's messages. The stream is
                out of step from here on: close it.
        """
        self._pending += data
        while len(self._pending) >= _LENGTH_BYTES:
            length = int.from_bytes(self._pending[:_LENGTH_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                msg = f"a frame states {length} bytes, {MAX_FRAME_BYTES} are allowed"
                raise WireError(msg, code="channel.limit")
            end = _LENGTH_BYTES + length
            if len(self._pending) < end:
                return
            body = bytes(self._pending[_LENGTH_BYTES:end])
            del self._pending[:end]
            try:
                message = self._decoder.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                msg = f"a frame is not a message of this channel: {error}"
                raise WireError(msg, code="channel.format") from error
            yield message
