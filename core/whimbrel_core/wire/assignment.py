"""The signed assignment: which bundle each slot of one device should serve.

A DSSE envelope in JSON, signed by the fleet key. It is level-triggered: the newest revision is
the whole truth, and one never seen is never missed. A device accepts it only for itself, and
never below the revision that it has seen (`verify` is pure: the caller holds the floor).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core import identity
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import InputError, TrustError, WireError
from whimbrel_core.signing import dsse
from whimbrel_core.wire.messages import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_core.signing.keys import PublicKey, Signer

PAYLOAD_TYPE = "application/vnd.whimbrel.assignment.v1+json"
MAX_ASSIGNMENT_BYTES = 8 * 1024


class Probation(msgspec.Struct, frozen=True):
    """What the device itself demands of a new version before it commits to it.

    Judged on the device from its own counts, so that a bad version is taken back without a
    network. A None is not judged. Committing needs ``rows`` rows, and ``labels`` labelled rows.
    """

    rows: int = 200
    labels: int = 0
    max_error_rate: float | None = 0.02
    max_latency_us: float | None = None
    min_auc: float | None = None
    min_accuracy: float | None = None
    max_output_psi: float | None = None
    deadline_s: float = 7 * 86_400.0


class SlotAssignment(msgspec.Struct, frozen=True):
    """One slot: the repository target to serve there, and its exact digest and length."""

    path: str
    digest: str
    length: int
    mode: Mode = "active"
    probation: Probation = Probation()


class Assignment(msgspec.Struct, frozen=True):
    """All slots of one device at one revision."""

    device: str
    revision: int
    slots: dict[str, SlotAssignment]
    issued_ms: int = 0


def sign(assignment: Assignment, signer: Signer) -> bytes:
    """Return the envelope that is published on ``down/desired``.

    Raises:
        WireError: it would be larger than the protocol allows.
    """
    envelope = dsse.sign(canonical_json(assignment), PAYLOAD_TYPE, signer, keyid=signer.public.id)
    data = canonical_json(envelope)
    if len(data) > MAX_ASSIGNMENT_BYTES:
        msg = f"assignment for {assignment.device} is {len(data)} bytes, {MAX_ASSIGNMENT_BYTES} are allowed"
        raise WireError(msg, code="wire.limit", hint="assign fewer slots to this device")
    return data


def verify(
    data: bytes, keys: Iterable[PublicKey], *, device: str, revision_floor: int
) -> Assignment:
    """Return the assignment in ``data`` if it is signed, for ``device``, and not an old one.

    Raises:
        WireError: malformed or too large.
        TrustError: not signed by a fleet key, for another device, or below the floor.
    """
    if len(data) > MAX_ASSIGNMENT_BYTES:
        msg = f"assignment is {len(data)} bytes, {MAX_ASSIGNMENT_BYTES} are allowed"
        raise WireError(msg, code="wire.limit")
    what = f"assignment for {device}"
    try:
        envelope = msgspec.json.decode(data, type=dsse.Envelope)
        payload, _ = dsse.verify(envelope, PAYLOAD_TYPE, keys, what=what)
        assignment = msgspec.json.decode(payload, type=Assignment)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{what}: malformed: {error}"
        raise WireError(msg) from error
    if assignment.device != device:
        msg = f"assignment is for {assignment.device!r}, this device is {device!r}"
        raise TrustError(msg, code="trust.device")
    if assignment.revision < revision_floor:
        msg = f"{what}: revision {assignment.revision} is below {revision_floor}, which was seen"
        raise TrustError(
            msg,
            code="trust.revision",
            hint="a restored server catches up by itself at this device's next birth",
        )
    try:
        for slot, wanted in assignment.slots.items():
            identity.slot_name(slot)
            identity.digest(wanted.digest)
    except InputError as error:
        raise WireError(error.message, hint=error.hint, code="wire.value") from error
    return assignment
