"""What control asks of its short-lived processes, and what they answer.

Each is ``python -m whimbrel_agent.update.<name>``: one JSON request on standard input, one JSON
answer on standard output. Control puts a time limit on each, and takes a crash for an answer too.
"""

from __future__ import annotations

import msgspec

from whimbrel_core.wire.assignment import Assignment


class Failure(msgspec.Struct, frozen=True):
    """Why a process could not do what it was asked; ``retryable``: later it may be able to."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False


class Wanted(msgspec.Struct, frozen=True):
    """One bundle to fetch, as the assignment names it."""

    path: str
    digest: str
    length: int


class UpdateRequest(msgspec.Struct, frozen=True):
    """Refresh the trusted metadata, and bring one bundle or none.

    Args:
        url: the repository: http(s) or a folder.
        data_dir: the agent's data directory.
        wanted: the bundle; None brings trust only.
        held: digests of bundles in the store (a delta may start from one).
        known: digests that were proven here before: usable from the store while the
            repository does not answer.
        floors: lowest release per model name.
        device_classes: classes of this device; empty takes any.
        clock_floor_ms: no metadata may have expired before this.
    """

    url: str
    data_dir: str
    wanted: Wanted | None = None
    held: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    floors: dict[str, int] = {}
    device_classes: tuple[str, ...] = ()
    ca: str = ""
    timeout_s: float = 30.0
    max_bytes: int = 1 << 30
    clock_floor_ms: int = 0


class Updated(msgspec.Struct, frozen=True):
    """What the updater did. ``source``: full, delta, store, or none.

    ``bytes_downloaded`` is all that came over the wire, metadata included.
    """

    source: str
    bytes_downloaded: int
    name: str = ""
    version: str = ""
    release: int = 0
    clock_floor_ms: int = 0
    trust_changed: bool = False


class PublisherKey(msgspec.Struct, frozen=True):
    """A key accepted on bundles of the named models; ``*`` is all of them."""

    pem: str
    models: tuple[str, ...] = ("*",)


class ProbeRequest(msgspec.Struct, frozen=True):
    """Prove one bundle on this device, within limits."""

    path: str
    digest: str
    keys: tuple[PublisherKey, ...]
    device_classes: tuple[str, ...] = ()
    memory_bytes: int = 4 << 30
    cpu_s: int = 60
    memory_available_bytes: int = 0


class Proven(msgspec.Struct, frozen=True):
    """A bundle that answers on this device as its source did."""

    name: str
    version: str
    release: int
    profile_id: str
    memory_bytes: int
    latency_us: float
    parity_rows: int
    max_abs_error: float
    key_id: str


class VerifyRequest(msgspec.Struct, frozen=True):
    """Verify a signed assignment (``envelope`` is its bytes)."""

    envelope: bytes
    keys: tuple[str, ...]
    device: str
    revision_floor: int


class Answer(msgspec.Struct, frozen=True):
    """What a process prints: exactly one of the fields is set."""

    failure: Failure | None = None
    updated: Updated | None = None
    proven: Proven | None = None
    assignment: Assignment | None = None
