"""What can be wrong with a server before it runs: each thing looked at, with what to do."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import WhimbrelError
from whimbrel_server import enrolment, running
from whimbrel_server.repository import Repository, keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_server.config import Settings

_MIN_FREE_BYTES = 1 << 30
_CONNECT_S = 3.0


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    hint: str | None = None


def look(settings: Settings) -> tuple[Finding, ...]:
    """Look at everything; nothing is changed."""
    return tuple(
        _safely(what, check, settings)
        for what, check in (
            ("operator token", _token),
            ("authority", _authority),
            ("repository", _repository),
            ("online keys", _online_keys),
            ("broker", _broker),
            ("disk", _disk),
        )
    )


def _safely(what: str, check: Callable[[Settings], Finding], settings: Settings) -> Finding:
    try:
        return check(settings)
    except WhimbrelError as error:
        return Finding(what, ok=False, found=error.message, hint=error.hint)


def _token(settings: Settings) -> Finding:
    running.web_settings(settings)
    return Finding("operator token", ok=True, found="its hash is there")


def _authority(settings: Settings) -> Finding:
    config = settings.config.enrolment
    enrolment.Authority.load(settings.path(config.ca_cert), settings.path(config.ca_key))
    return Finding("authority", ok=True, found="certificate and key fit")


def _repository(settings: Settings) -> Finding:
    repository = Repository(settings.path(settings.config.repository.directory))
    repository.reload()
    published = repository.published()
    bad = [f"{one.name} {one.version}: {one.problem}" for one in published if one.problem]
    if bad:
        return Finding("repository", ok=False, found="; ".join(bad), hint="publish them again")
    return Finding("repository", ok=True, found=f"{len(published)} bundles, all verified")


def _online_keys(settings: Settings) -> Finding:
    folder = settings.optional(settings.config.repository.online_keys)
    missing = keys.missing(folder)
    key = None if missing else keys.fleet_key(folder)
    if key is None:
        return Finding(
            "online keys",
            ok=False,
            found=f"missing: {', '.join(missing)}",
            hint="name the folder that 'whimbrel repo init --online-keys' made",
        )
    repository = Repository(settings.path(settings.config.repository.directory))
    repository.reload()
    if key.public.id not in repository.fleet_key_ids():
        return Finding(
            "online keys",
            ok=False,
            found="fleet.pem is not a key that devices accept assignments from",
            hint="use the fleet.pem that belongs to the repository's trust/fleet.json",
        )
    return Finding("online keys", ok=True, found="present; devices accept this fleet key")


def _broker(settings: Settings) -> Finding:
    mqtt = settings.config.mqtt
    if mqtt.embedded:
        return Finding(
            "broker", ok=True, found="embedded: loopback, no authorisation, for trying out"
        )
    try:
        socket.create_connection((mqtt.host, mqtt.port), _CONNECT_S).close()
    except OSError as error:
        return Finding(
            "broker",
            ok=False,
            found=f"{mqtt.host}:{mqtt.port} does not answer: {error}",
            hint="start it: mosquitto -c …/mosquitto.conf",
        )
    return Finding("broker", ok=True, found=f"{mqtt.host}:{mqtt.port} answers")


def _disk(settings: Settings) -> Finding:
    folder = settings.path(settings.config.data_dir)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    return Finding(
        "disk",
        ok=free >= _MIN_FREE_BYTES,
        found=f"{free / (1 << 30):.1f} GiB free for {folder}",
        hint=None if free >= _MIN_FREE_BYTES else "free some space: windows are kept for days",
    )
