"""Is this device ready? One finding per thing, each with what to do about it."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.paths import DataDirectory
from whimbrel_agent.system import resources
from whimbrel_core.errors import WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from whimbrel_agent.config import Config

_LEAST_DISK_BYTES = 64 << 20
_CONNECT_S = 5.0


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, whether it is well, and what to do if it is not."""

    what: str
    ok: bool
    detail: str
    hint: str = ""


def _well(what: str, detail: str) -> Finding:
    return Finding(what, ok=True, detail=detail)


def _problem(what: str, detail: str, hint: str) -> Finding:
    return Finding(what, ok=False, detail=detail, hint=hint)


def check(config: Config) -> Iterator[Finding]:
    """Yield what is found about the configuration's paths, trust, port, clock and peers."""
    home = DataDirectory(config.data_dir)
    running = _agent_runs(home)
    yield _data(home)
    yield _disk(home, config)
    yield _trust(config, home)
    yield _port(config, running=running)
    yield _clock()
    if config.repository.url:
        yield _repository(config)
    if config.mqtt.host:
        yield _broker(config)


def _agent_runs(home: DataDirectory) -> bool:
    from whimbrel_agent.control.admin import Request, ask

    try:
        ask(home.admin_socket, Request("status"))
    except WhimbrelError:
        return False
    return True


def _data(home: DataDirectory) -> Finding:
    try:
        home.create()
        probe = home.run / ".check"
        probe.write_bytes(b"")
        probe.unlink()
    except (OSError, WhimbrelError) as error:
        return _problem("data", f"{home.root}: {error}", "give its owner the right to write")
    return _well("data", str(home.root))


def _disk(home: DataDirectory, config: Config) -> Finding:
    free = resources.disk_free_bytes(home.root)
    wanted = config.limits.outbox_bytes + _LEAST_DISK_BYTES
    detail = f"{free >> 20} MiB free, {wanted >> 20} MiB wanted"
    hint = "free space, or lower limits.outbox_bytes"
    return Finding("disk", ok=free >= wanted, detail=detail, hint=hint)


def _trust(config: Config, home: DataDirectory) -> Finding:
    from whimbrel_agent.update import trust

    if not home.root_json.exists():
        if not config.root:
            return _problem(
                "trust", f"no {home.root_json}", "put the root.json from enrolment there"
            )
        try:
            with open(config.root, "rb"):  # noqa: PTH123 - only whether it can be read
                return _well("trust", f"root of trust will be taken from {config.root}")
        except OSError as error:
            return _problem("trust", f"{config.root}: {error}", "see `root` in agent.toml")
    try:
        publishers = trust.publishers(home.publishers_json)
        fleet = trust.fleet(home.fleet_json)
    except WhimbrelError as error:
        return _problem("trust", error.message, error.hint or "")
    if not publishers:
        return _well("trust", "root of trust is there; publishers' keys come with a sync")
    return _well("trust", f"{len(publishers)} publishers' keys, {len(fleet)} fleet keys")


def _port(config: Config, *, running: bool) -> Finding:
    from whimbrel_agent.control.sockets import Listeners

    where = f"{config.http.host}:{config.http.port}"
    if running:
        return _well("port", f"{where}: the agent runs")
    try:
        Listeners(config.http.host, config.http.port, config.http.socket).close()
    except WhimbrelError as error:
        return _problem("port", error.message, error.hint or "")
    return _well("port", f"{where} is free")


def _clock() -> Finding:
    quality = resources.clock_quality()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return Finding(
        "clock",
        ok=quality == "synced",
        detail=f"{shown}, {quality}",
        hint="synchronise it (chrony, systemd-timesyncd); until then windows say 'unsynced'",
    )


def _attempt(what: str, good: str, attempt: Callable[[], object], hint: str) -> Finding:
    try:
        attempt()
    except WhimbrelError as error:
        return _problem(what, error.message, error.hint or hint)
    except OSError as error:
        return _problem(what, str(error), hint)
    return _well(what, good)


def _repository(config: Config) -> Finding:
    from whimbrel_agent.update.repository_address import transport

    url = config.repository.url

    def read() -> None:
        source = transport(url, ca=config.repository.ca, timeout_s=_CONNECT_S)
        for _ in source.chunks("metadata/timestamp.json"):
            return

    return _attempt("repository", url, read, "see repository.url in agent.toml")


def _broker(config: Config) -> Finding:
    host, port = config.mqtt.host, config.mqtt.port

    def connect() -> None:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()

    return _attempt("broker", f"{host}:{port} takes connections", connect, "see [mqtt]")
