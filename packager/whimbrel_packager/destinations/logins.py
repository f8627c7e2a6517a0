"""Who we are at a registry: from where ``docker login``, ``podman login`` and ``skopeo`` keep it."""

from __future__ import annotations

import base64
import binascii
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from whimbrel_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HELPER_S = 30.0


class Login(NamedTuple):
    """A name and a password."""

    name: str
    secret: str

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.secret}".encode()).decode()


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""


class _Config(
    msgspec.Struct, frozen=True, rename={"helpers": "credHelpers", "store": "credsStore"}
):
    auths: dict[str, _Entry] = {}
    helpers: dict[str, str] = {}
    store: str = ""


class _Helped(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


def find(host: str, environment: Mapping[str, str] | None = None) -> Login | None:
    """Return who we are at a registry; None: nobody said.

    Looks at ``REGISTRY_AUTH_FILE``, then ``DOCKER_CONFIG`` or ``~/.docker``, then podman's file.

    Raises:
        UsageError: a file of logins is malformed, or a helper that it names fails.
    """
    env = os.environ if environment is None else environment
    for file in _files(env):
        if not file.is_file():
            continue
        try:
            config = msgspec.json.decode(file.read_bytes(), type=_Config)
        except (OSError, msgspec.DecodeError) as error:
            raise UsageError(
                f"the logins in {file} cannot be read: {error}", hint="log in again"
            ) from error
        found = _in(config, host, file)
        if found is not None:
            return found
    return None


def _files(env: Mapping[str, str]) -> list[Path]:
    if env.get("REGISTRY_AUTH_FILE"):
        return [Path(env["REGISTRY_AUTH_FILE"])]
    docker = Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME", "/")) / ".docker")
    found = [docker / "config.json"]
    if env.get("XDG_RUNTIME_DIR"):
        found.append(Path(env["XDG_RUNTIME_DIR"]) / "containers/auth.json")
    return found


def _in(config: _Config, host: str, file: Path) -> Login | None:
    helper = config.helpers.get(host)
    entry = config.auths.get(host) or config.auths.get(f"https://{host}")
    if helper:
        return _helped(helper, host)
    if entry is None:
        return None
    if not entry.auth:
        # `docker login` leaves an empty entry, and the secret with its store.
        return _helped(config.store, host) if config.store else None
    try:
        name, _, secret = base64.b64decode(entry.auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise UsageError(
            f"the login for {host} in {file} is malformed", hint="log in again"
        ) from error
    return Login(name, secret)


def _helped(helper: str, host: str) -> Login:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=host,
            capture_output=True,
            text=True,
            timeout=_HELPER_S,
            check=True,
        )
        said = msgspec.json.decode(done.stdout, type=_Helped)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        raise UsageError(
            f"{program} did not say who we are at {host}: {error}", hint="log in again"
        ) from error
    return Login(said.username, said.secret)
