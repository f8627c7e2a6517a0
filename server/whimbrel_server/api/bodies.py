"""What clients send: frozen structs that refuse fields they do not know."""

from __future__ import annotations

import msgspec


class LabelsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels to set on a device; an empty value removes a label, others stay."""

    labels: dict[str, str]


class AssignmentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version that one slot of one device should serve, without waves or gates."""

    model: str
    version: str


class EnrolmentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device's certificate request in PEM; the private key stays where it was made."""

    csr_pem: str
    labels: dict[str, str] = {}
