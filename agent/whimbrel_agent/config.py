"""Configuration of the agent. The commented file `agent.toml` beside this module documents it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.channel import ServingSettings
from whimbrel_core import config, identity
from whimbrel_core.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIX = "WHIMBREL_AGENT"
_PORTS = 65_535
_ABOVE_ZERO = (
    ("limits", "max_header_bytes"),
    ("limits", "max_connections"),
    ("telemetry", "in_flight"),
    ("telemetry", "resend_s"),
    ("telemetry", "retry_s"),
)


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fleet's broker; an empty host means that there is no fleet."""

    host: str = ""
    port: int = 1883
    ca: str = ""
    cert: str = ""
    key: str = ""
    username: str = ""
    password_file: str = ""
    keepalive_s: int = 30
    reconnect_max_s: float = 300.0
    stable_s: float = 60.0


class Repository(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where bundles come from: a URL or a folder."""

    url: str = ""
    ca: str = ""
    sync_s: float = 3600.0
    timeout_s: float = 30.0


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where requests are answered."""

    host: str = "127.0.0.1"
    port: int = 8080
    socket: str = ""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be taken of the device."""

    outbox_bytes: int = 64 << 20
    probe_memory_bytes: int = 4 << 30
    probe_timeout_s: float = 60.0
    download_bytes: int = 1 << 30
    update_timeout_s: float = 3600.0
    max_body_bytes: int = 4 << 20
    max_rows: int = 4096
    max_header_bytes: int = 16 * 1024
    max_connections: int = 512
    inline_us: float = 2000.0
    load_timeout_s: float = 60.0
    drain_s: float = 5.0
    store_keep: int = 2


class Telemetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How windows are made and sent."""

    profiles: bool = True
    lateness_s: float = 0.0
    idle_close_s: float = 300.0
    label_capacity: int = 65_536
    in_flight: int = 512
    resend_s: float = 5.0
    retry_s: float = 5.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration of one agent."""

    device_id: str = ""
    data_dir: str = "/var/lib/whimbrel"
    root: str = ""
    device_classes: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    mqtt: Mqtt = Mqtt()
    repository: Repository = Repository()
    http: Http = Http()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()

    @property
    def fingerprint(self) -> str:
        """The first 16 digits of a hash of all of it, labels apart: those are told as they are."""
        rest = msgspec.structs.replace(self, labels={})
        return hashlib.sha256(msgspec.json.encode(rest)).hexdigest()[:16]

    def serving(self) -> ServingSettings:
        """Return what a worker has to know of it."""
        return ServingSettings(
            max_body_bytes=self.limits.max_body_bytes,
            max_rows=self.limits.max_rows,
            max_header_bytes=self.limits.max_header_bytes,
            max_connections=self.limits.max_connections,
            inline_us=self.limits.inline_us,
            lateness_s=self.telemetry.lateness_s,
            idle_close_s=self.telemetry.idle_close_s,
            label_capacity=self.telemetry.label_capacity,
            telemetry_retry_s=self.telemetry.retry_s,
            profiles=self.telemetry.profiles,
        )


def default_text() -> str:
    """Return the shipped, commented ``agent.toml``."""
    from importlib import resources

    return resources.files("whimbrel_agent").joinpath("agent.toml").read_text("utf-8")


def load(
    path: Path, env: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Config:
    """Return the configuration in the file at ``path``, checked, with absolute paths.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong. Nothing was started.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"configuration {path} cannot be read: {error}"
        raise ConfigError(msg, hint="give the file with --config") from error
    loaded = config.load(
        Config, text, env=env, prefix=PREFIX, origin=str(path), overrides=overrides
    )
    return check(_absolute(loaded, path.resolve().parent), str(path))


def check(loaded: Config, origin: str) -> Config:
    """Return ``loaded`` if its values make sense together.

    Raises:
        ConfigError: naming the key.
    """
    try:
        identity.device_id(loaded.device_id)
    except InputError as error:
        msg = f"{origin}: device_id: {error.message}"
        raise ConfigError(msg, hint=error.hint) from error
    for key, port, least in (("mqtt", loaded.mqtt.port, 1), ("http", loaded.http.port, 0)):
        if not least <= port <= _PORTS:
            msg = f"{origin}: {key}.port is {port}, it must be {least} to {_PORTS}"
            raise ConfigError(msg)
    if bool(loaded.mqtt.cert) != bool(loaded.mqtt.key):
        msg = f"{origin}: mqtt.cert and mqtt.key belong together, only one is given"
        raise ConfigError(msg, hint="give both PEM files, or neither")
    if loaded.mqtt.cert and not loaded.mqtt.ca:
        msg = f"{origin}: mqtt.cert is given without mqtt.ca"
        raise ConfigError(msg, hint="give the authority that the broker's certificate is from")
    _require_numbers(loaded, origin)
    return loaded


def _require_numbers(loaded: Config, origin: str) -> None:
    """Refuse what must not be negative, or zero where nothing would happen any more."""
    for section in ("limits", "telemetry"):
        part = getattr(loaded, section)
        for key in part.__struct_fields__:
            if getattr(part, key) < 0:
                msg = f"{origin}: {section}.{key} is negative"
                raise ConfigError(msg)
    for section, key in _ABOVE_ZERO:
        if not getattr(getattr(loaded, section), key) > 0:
            msg = f"{origin}: {section}.{key} must be above zero"
            raise ConfigError(msg)


def is_folder(url: str) -> bool:
    """Return whether a repository's ``url`` names a folder on this machine."""
    return not url.startswith(("http://", "https://"))


def _absolute(loaded: Config, base: Path) -> Config:
    def at(path: str) -> str:
        return str(base / path) if path else ""

    url = loaded.repository.url
    if url and is_folder(url):
        url = at(url.removeprefix("file://"))
    replace = msgspec.structs.replace
    return replace(
        loaded,
        data_dir=at(loaded.data_dir),
        root=at(loaded.root),
        mqtt=replace(
            loaded.mqtt,
            ca=at(loaded.mqtt.ca),
            cert=at(loaded.mqtt.cert),
            key=at(loaded.mqtt.key),
            password_file=at(loaded.mqtt.password_file),
        ),
        repository=replace(loaded.repository, url=url, ca=at(loaded.repository.ca)),
        http=replace(loaded.http, socket=at(loaded.http.socket)),
    )
