"""`whimbrel fleet enrol`: makes a folder with which a device can join.

The private key is made here, on the machine of whoever enrols, and never sent: the server sees a
certificate request. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_core import identity
from whimbrel_core.errors import StorageError, UsageError
from whimbrel_server.commands.fleet.connection import connected, pairs
from whimbrel_server.commands.fleet.printing import print_json

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient
    from whimbrel_server.views.enrolment import Enrolment


@click.command(
    epilog="Example: whimbrel fleet enrol lga --out lga --label site=north --token-file token"
)
@click.argument("device")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to make; it must not exist, or be empty.",
)
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the device."
)
@click.option("--http-port", default=8080, show_default=True, help="Where the agent will answer.")
@connected
def enrol(
    client: FleetClient,
    *,
    device: str,
    out: Path,
    labels: tuple[str, ...],
    http_port: int,
    as_json: bool,
) -> None:
    """Enrol a device: make its key here, have it certified, write its folder."""
    identity.device_id(device)
    given = pairs(labels, "label")
    _refuse_used(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the goal, so that the last step is one rename; 0700 by mkdtemp.
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise StorageError(f"{out.parent} cannot be written: {error}") from error
    try:
        csr = _make_key(made / "device.key", device)
        enrolment = client.enrol(device, csr, given)
        _write(made, enrolment, http_port)
        made.replace(out)
    except OSError as error:
        raise StorageError(
            f"{out} cannot be written: {error}; {device} may be enrolled already",
            hint="enrol it again into another folder: that replaces the certificate",
        ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if as_json:
        print_json({"device": device, "folder": str(out), "labels": enrolment.labels})
        return
    click.echo(f"{device} is enrolled; its folder is {out}")
    click.echo(
        f"carry it to the device and run there: whimbrel agent run --config {out}/agent.toml"
    )


def _refuse_used(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{out} is there already and not empty; nothing was changed",
            hint="give another folder with --out, or move that one away",
            code="usage.exists",
        )


def _make_key(path: Path, device: str) -> str:
    """Write a new private key (mode 0600) and return a certificate request for it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _write(folder: Path, enrolment: Enrolment, http_port: int) -> None:
    (folder / "trust").mkdir()
    for name, text in (
        ("device.crt", enrolment.cert_pem),
        ("ca.crt", enrolment.ca_pem),
        ("trust/root.json", enrolment.root_json),
        ("agent.toml", agent_toml(enrolment, http_port)),
    ):
        (folder / name).write_text(text, "utf-8")


def agent_toml(enrolment: Enrolment, http_port: int) -> str:
    """Return the agent's configuration; paths in it are relative to the file itself."""
    mqtt = enrolment.mqtt
    lines = [
        f"# Agent of {enrolment.device}. Paths are relative to this file.",
        "# Every key with its default: whimbrel agent run --print-default-config",
        f"device_id = {_toml(enrolment.device)}",
        "# For a service of the system, a folder like /var/lib/whimbrel.",
        'data_dir = "data"',
        "# What this device trusts at first; everything else follows from it.",
        'root = "trust/root.json"',
        "",
        "[labels]",
        *(f"{_toml(key)} = {_toml(value)}" for key, value in sorted(enrolment.labels.items())),
        "",
        "[mqtt]",
        f"host = {_toml(mqtt.host)}",
        f"port = {mqtt.port}",
    ]
    if mqtt.tls:
        lines += [
            "# The key was made at enrolment and is nowhere else: keep it readable by the agent alone.",
            'ca = "ca.crt"',
            'cert = "device.crt"',
            'key = "device.key"',
        ]
    else:
        lines += ["# This broker speaks without TLS: for one machine only."]
    lines += [
        "",
        "[repository]",
        f"url = {_toml(enrolment.repository_url)}",
        "",
        "[http]",
        "# Where applications on this device ask for predictions.",
        f"port = {http_port}",
    ]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are a subset of TOML's, once DEL is spelled."""
    return json.dumps(text).replace("\x7f", "\\u007f")
