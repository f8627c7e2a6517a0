"""The server's configuration: frozen structs over the commented ``server.toml`` beside this file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_core import config
from whimbrel_core.errors import ConfigError
from whimbrel_core.profile.watching.alarms import Severity
from whimbrel_server.domain.policies import Override, Policies

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "WHIMBREL_SERVER"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
FILE = "server.toml"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class Http(Section, frozen=True):
    """``[http]``."""

    host: str = "127.0.0.1"
    port: int = 8500
    public_url: str = ""


class Mqtt(Section, frozen=True):
    """``[mqtt]``."""

    host: str = "127.0.0.1"
    port: int = 8883
    embedded: bool = False
    public_host: str = ""
    public_port: int = 0
    ca: str = ""
    cert: str = ""
    key: str = ""
    username: str = ""
    password_file: str = ""


class RepositoryConfig(Section, frozen=True):
    """``[repository]``."""

    directory: str = "repository"
    online_keys: str = "online-keys"
    watch_s: float = 1.0
    timestamp_hours: float = 24.0
    snapshot_hours: float = 168.0
    upload_mb: int = 2048


class EnrolmentConfig(Section, frozen=True):
    """``[enrolment]``."""

    ca_cert: str = "ca.crt"
    ca_key: str = "ca.key"
    device_days: int = 825
    unknown_devices: Literal["refuse", "admit"] = "refuse"


class Auth(Section, frozen=True):
    """``[auth]``."""

    token_hash_file: str = "token.hash"  # noqa: S105 - the name of a file
    read: Literal["auto", "open", "token"] = "auto"
    secure_cookie: bool = False


class Monitoring(Section, frozen=True):
    """``[monitoring]``."""

    checkpoint_s: float = 1.0
    confirm_windows: int = 2
    calm_windows: int = 3
    max_quality_drop: float = 0.05
    min_labels: int = 200
    quality_days: int = 30
    silent_hours: float = 72.0
    peers: str = ""
    override: tuple[Override, ...] = ()

    def policies(self) -> Policies:
        """Return these defaults and overrides, complete.

        Raises:
            ConfigError: an override has no meaning, or two contradict each other.
        """
        return Policies(
            self.override,
            confirm=self.confirm_windows,
            calm=self.calm_windows,
            max_quality_drop=self.max_quality_drop,
        )


class Retraining(Section, frozen=True):
    """``[retraining]``."""

    command: tuple[str, ...] = ()
    timeout_s: float = 3600.0
    kinds: tuple[str, ...] = ("drift", "quality")
    severity: Severity = "warn"
    devices: int = 1
    cooldown_hours: float = 24.0


class Notify(Section, frozen=True):
    """``[notify]``."""

    webhooks: tuple[str, ...] = ()
    timeout_s: float = 10.0
    attempts: int = 8


class Retention(Section, frozen=True):
    """``[retention]``."""

    segments_hours: int = 48
    hours_days: int = 90
    days_days: int = 730


class Config(Section, frozen=True):
    """The whole file. ``base`` is the folder that relative paths are taken from."""

    data_dir: str = "data"
    http: Http = Http()
    mqtt: Mqtt = Mqtt()
    repository: RepositoryConfig = RepositoryConfig()
    enrolment: EnrolmentConfig = EnrolmentConfig()
    auth: Auth = Auth()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    notify: Notify = Notify()
    retention: Retention = Retention()


class Settings(msgspec.Struct, frozen=True):
    """A configuration and the folder that its relative paths are taken from."""

    config: Config
    base: Path

    def path(self, text: str) -> Path:
        """Return a path of the configuration, absolute."""
        return (self.base / text).absolute()

    def optional(self, text: str) -> Path | None:
        """Return a path of the configuration, or None for an empty one."""
        return self.path(text) if text else None


def default_text() -> str:
    """Return the shipped ``server.toml``."""
    return files("whimbrel_server").joinpath(FILE).read_text("utf-8")


def load(
    file: Path, env: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings:
    """Read ``file``, environment and flags.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong. Nothing was started.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read: {error}", hint="make one with 'whimbrel server init --dir …'"
        ) from error
    loaded = config.load(
        Config, text, env=env, prefix=PREFIX, origin=str(file), overrides=overrides
    )
    _check(loaded, file)
    return Settings(loaded, file.parent)


def _check(loaded: Config, file: Path) -> None:
    try:
        loaded.monitoring.policies()
    except ConfigError as error:
        raise ConfigError(
            f"{file}: [[monitoring.override]]: {error.message}",
            hint=error.hint or "see 'Tune drift policies' in the how-to guides",
            code=error.code,
        ) from error
    positive = {
        "repository.watch_s": loaded.repository.watch_s,
        "repository.timestamp_hours": loaded.repository.timestamp_hours,
        "repository.snapshot_hours": loaded.repository.snapshot_hours,
        "repository.upload_mb": loaded.repository.upload_mb,
        "enrolment.device_days": loaded.enrolment.device_days,
        "monitoring.checkpoint_s": loaded.monitoring.checkpoint_s,
        "monitoring.confirm_windows": loaded.monitoring.confirm_windows,
        "monitoring.calm_windows": loaded.monitoring.calm_windows,
        "monitoring.silent_hours": loaded.monitoring.silent_hours,
        "retraining.timeout_s": loaded.retraining.timeout_s,
        "notify.timeout_s": loaded.notify.timeout_s,
        "notify.attempts": loaded.notify.attempts,
        "retention.segments_hours": loaded.retention.segments_hours,
        "retention.hours_days": loaded.retention.hours_days,
        "retention.days_days": loaded.retention.days_days,
    }
    for key, value in positive.items():
        if not value > 0:
            raise ConfigError(f"{file}: {key} is {value}, it must be above zero")
    for key, port in (("http.port", loaded.http.port), ("mqtt.port", loaded.mqtt.port)):
        if not 0 <= port <= 65_535:  # noqa: PLR2004 - the range of ports
            raise ConfigError(f"{file}: {key} is {port}, a port is 0 to 65535")
    if loaded.mqtt.embedded and loaded.mqtt.host not in LOOPBACK:
        raise ConfigError(
            f"{file}: the embedded broker has no authorisation and listens on loopback only, "
            f"not on {loaded.mqtt.host}",
            hint="use mosquitto with the mosquitto.conf that 'whimbrel server init' wrote",
        )
