"""A real OCI registry (Debian's docker-registry) on a free port, open or with logins."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import http.server
import json
import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from tests.support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

WAIT_S = 15.0


class RegistryProcess:
    """One ``docker-registry serve`` over a folder.

    Args:
        folder: for its configuration, blobs and log.
        auth: the section of its configuration that says who may come in.
    """

    def __init__(self, folder: Path, auth: dict[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self._log = folder / "registry.log"
        self._config = folder / "config.yml"
        config: dict[str, Any] = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
            "http": {"addr": self.host, "secret": "for tests"},
        }
        if auth:
            config["auth"] = auth
        self._config.write_text(json.dumps(config))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it takes connections."""
        # A variable REGISTRY_… would be a key of its configuration to it.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._config)],
                stdout=log,
                stderr=log,
                env=inherited,
            )
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                    return self
            except OSError:  # noqa: PERF203 - it is what is waited for
                if self._process.poll() is not None or time.monotonic() > deadline:
                    msg = f"docker-registry does not run: {self._log.read_text()}"
                    raise RuntimeError(msg) from None
                time.sleep(0.01)

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_S)
            self._process = None


LOGIN = "ada:swordfish"
_HASHED = (
    "ada:$2b$04$Vz6Q6956ZCJOXNau.5Y9EeS7ruxt9komoH34CPXl3TAVhbgt0OJZ2"  # bcrypt of that password
)


def passwords(folder: Path) -> dict[str, Any]:
    """Return the configuration of a registry that asks for `LOGIN`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(_HASHED + "\n")
    return {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}


class TokenServer:
    """Gives tokens for a registry to whoever shows a password, as public registries do.

    Args:
        folder: for its certificate.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.asked: list[str] = []
        self._login = "Basic " + base64.b64encode(LOGIN.encode()).decode()
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        now = dt.datetime.now(dt.timezone.utc)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .sign(self._key, hashes.SHA256())
        )
        bundle = folder / "roots.pem"
        bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                outer.asked.append(query["scope"][0])
                known = self.headers.get("authorization") == outer._login
                body = json.dumps({"token": outer._token(query) if known else ""}).encode()
                self.send_response(200 if known else 401)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.port = int(self._server.server_address[1])
        self._bundle = bundle

    def auth(self) -> dict[str, Any]:
        """Return the configuration of a registry that believes these tokens."""
        return {
            "token": {
                "realm": f"http://127.0.0.1:{self.port}/token",
                "service": "tests",
                "issuer": "tests",
                "rootcertbundle": str(self._bundle),
            }
        }

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def _token(self, query: dict[str, list[str]]) -> str:
        kind, name, actions = query["scope"][0].split(":")
        now = int(time.time())
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        head = {"alg": "ES256", "typ": "JWT", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": "tests",
            "sub": "ada",
            "aud": "tests",
            "exp": now + 300,
            "nbf": now - 60,
            "iat": now,
            "jti": hashlib.sha256(str(now).encode()).hexdigest(),
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        signed = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
