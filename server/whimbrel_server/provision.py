"""A new server's folder: authority, certificates, configuration, operator token.

Everything is written into a folder beside the wanted one and renamed at the end: there is a whole
server folder or none.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import StorageError, UsageError
from whimbrel_server import config, enrolment
from whimbrel_server.broker import mosquitto_acl, mosquitto_conf

if TYPE_CHECKING:
    from datetime import datetime

_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asked for."""

    directory: Path
    repository: Path
    online_keys: Path | None = None
    http_host: str = "127.0.0.1"
    http_port: int = 8500
    mqtt_host: str = "127.0.0.1"
    mqtt_port: int = 8883
    embedded_broker: bool = False
    public_url: str = ""


def make(plan: Plan, *, token_hash: str, now: datetime) -> tuple[Path, ...]:
    """Write the folder and return its files.

    Raises:
        UsageError: the folder exists and is not empty; nothing was changed.
        StorageError: it cannot be written; nothing is left behind.
    """
    directory = plan.directory.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(
            f"{directory} exists and is not an empty folder; it was not touched",
            hint="choose another --dir",
            code="conflict",
        )
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise StorageError(f"{directory.parent} cannot be written: {error}") from error
    try:
        _fill(partial, directory, plan, token_hash, now)
        partial.replace(directory)
    except OSError as error:
        raise StorageError(f"{directory} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return tuple(sorted(directory.iterdir()))


def _fill(folder: Path, directory: Path, plan: Plan, token_hash: str, now: datetime) -> None:
    authority = enrolment.Authority.create(now)
    enrolment.write_secret(folder / "ca.key", authority.key_pem)
    (folder / "ca.crt").write_text(authority.certificate_pem, "ascii")
    hosts = tuple(dict.fromkeys((plan.mqtt_host, "localhost", "127.0.0.1")))
    certificate, key = authority.issue("whimbrel-broker", now, hosts)
    (folder / "broker.crt").write_text(certificate, "ascii")
    enrolment.write_secret(folder / "broker.key", key)
    certificate, key = authority.issue(enrolment.SERVER_NAME, now)
    (folder / "server.crt").write_text(certificate, "ascii")
    enrolment.write_secret(folder / "server.key", key)
    (folder / "mosquitto.conf").write_text(
        mosquitto_conf(
            directory,
            plan.mqtt_port,
            address="127.0.0.1" if plan.mqtt_host in _LOOPBACK else "0.0.0.0",  # noqa: S104 - devices connect from outside
            user=getpass.getuser(),
        ),
        "utf-8",
    )
    (folder / "acl").write_text(mosquitto_acl(), "ascii")
    # mosquitto refuses, from its next version on, an ACL that others may read.
    (folder / "acl").chmod(0o600)
    enrolment.write_secret(folder / "token.hash", token_hash.encode("ascii") + b"\n")
    (folder / config.FILE).write_text(_config_text(plan, directory), "utf-8")


def _config_text(plan: Plan, directory: Path) -> str:
    secured = not plan.embedded_broker
    online = plan.online_keys.absolute() if plan.online_keys is not None else None
    values: dict[str, object] = {
        "http.host": plan.http_host,
        "http.port": plan.http_port,
        "http.public_url": plan.public_url,
        "mqtt.host": plan.mqtt_host,
        "mqtt.port": plan.mqtt_port,
        "mqtt.embedded": plan.embedded_broker,
        "mqtt.ca": "ca.crt" if secured else "",
        "mqtt.cert": "server.crt" if secured else "",
        "mqtt.key": "server.key" if secured else "",
        "repository.directory": _relative(plan.repository.absolute(), directory),
        "repository.online_keys": _relative(online, directory) if online is not None else "",
    }
    return fill_in(config.default_text(), values)


def fill_in(text: str, values: dict[str, object]) -> str:
    """Return the commented default file with some values replaced."""
    section = ""
    lines = []
    left = dict(values)
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1] + "."
        if (found := re.match(r"(\w+) = ", line)) and (key := section + found[1]) in left:
            shown = msgspec.json.encode(left.pop(key)).decode("utf-8")
            lines.append(f"{found[1]} = {shown}")
        else:
            lines.append(line)
    if left:
        raise UsageError(f"the default configuration has no {', '.join(sorted(left))}")
    return "\n".join(lines) + "\n"


def _relative(path: Path, directory: Path) -> str:
    """Return ``path`` as seen from ``directory``, so that both can be moved together."""
    return os.path.relpath(path, directory)
