"""MQTT topics of protocol version 1.

``<d>`` is the device id, which is also its certificate's common name, MQTT user name and client
id, so that a broker can restrict each device to its own branch.
"""

from __future__ import annotations

from typing import Literal

from whimbrel_core.errors import InputError, WireError
from whimbrel_core.identity import DeviceId, device_id

ROOT = "whimbrel/v1"
SERVER_LIFE = f"{ROOT}/server/life"
ALL_HINT = f"{ROOT}/all/hint"
UP_FILTER = f"{ROOT}/+/up/+"

Up = Literal["life", "state", "window", "event"]
Down = Literal["desired", "ack", "hint"]
UP: frozenset[str] = frozenset({"life", "state", "window", "event"})


def up(device: DeviceId, leaf: Up) -> str:
    """Return the topic on which ``device`` reports."""
    return f"{ROOT}/{device}/up/{leaf}"


def down(device: DeviceId, leaf: Down) -> str:
    """Return the topic on which ``device`` is told."""
    return f"{ROOT}/{device}/down/{leaf}"


def parse_up(topic: str) -> tuple[DeviceId, Up]:
    """Return device and leaf of a topic under `UP_FILTER`.

    Raises:
        WireError: not such a topic.
    """
    parts = topic.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT or parts[3] != "up" or parts[4] not in UP:  # noqa: PLR2004 - levels of the topic
        msg = f"{topic[:120]!r} is not a device's topic"
        raise WireError(msg, code="wire.topic")
    try:
        return device_id(parts[2]), parts[4]  # type: ignore[return-value]
    except InputError as error:
        raise WireError(error.message, code="wire.topic") from error
