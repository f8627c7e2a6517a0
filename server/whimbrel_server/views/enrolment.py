"""What a device is given to join the fleet."""

from __future__ import annotations

import msgspec


class MqttView(msgspec.Struct, frozen=True, kw_only=True):
    """Where devices find the broker."""

    host: str
    port: int
    tls: bool


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What a device needs to join: certificate, trust anchors and addresses."""

    device: str
    cert_pem: str
    ca_pem: str
    root_json: str
    mqtt: MqttView
    repository_url: str
    labels: dict[str, str] = {}
