"""The fleet's certificate authority: who may speak to the broker, and as whom.

EC P-256 throughout. A device makes its own key and sends a certificate request; the subject of
the request is not believed: the certificate names the device that the operator enrols.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from whimbrel_core import identity
from whimbrel_core.errors import InputError, StorageError, TrustError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

SERVER_NAME = "whimbrel-server"
# Topic levels and subjects that would be taken for something else.
RESERVED = frozenset({SERVER_NAME, "server", "all", "fleet"})
_CA_DAYS = 3650
_SERVICE_DAYS = 825
# A device's clock may be behind; a certificate that is "not valid yet" locks it out.
_BACKDATE = timedelta(days=1)
_MAX_CSR_BYTES = 16 * 1024


def device_name(text: str) -> identity.DeviceId:
    """Return ``text`` as the id of a device that may be enrolled.

    Raises:
        InputError: not a device id, or one that means something else in topics.
    """
    name = identity.device_id(text)
    if name in RESERVED:
        raise InputError(
            f"{name!r} is reserved and cannot be a device's id",
            hint=f"reserved are {', '.join(sorted(RESERVED))}",
            code="input.device_id",
        )
    return name


class Authority:
    """Signs certificates.

    Args:
        certificate: of the authority. ``key``: its private key.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def create(cls, now: datetime, name: str = "Whimbrel fleet") -> Authority:
        """Make a new authority with a key of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + timedelta(days=_CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Authority:
        """Read an authority from its files.

        Raises:
            TrustError: a file is missing or is not what it should be.
        """
        try:
            loaded = serialization.load_pem_private_key(key.read_bytes(), None)
            read = x509.load_pem_x509_certificate(certificate.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise TrustError(
                f"the fleet's certificate authority cannot be read: {error}",
                hint="see [enrolment] in server.toml; 'whimbrel server init' makes one",
                code="trust.authority",
            ) from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TrustError(f"{key} is not an EC key", code="trust.authority")
        if loaded.public_key() != read.public_key():
            raise TrustError(f"{key} is not the key of {certificate}", code="trust.authority")
        return cls(read, loaded)

    @property
    def certificate_pem(self) -> str:
        """The authority's certificate, which devices and brokers trust."""
        return _pem(self._certificate)

    @property
    def key_pem(self) -> bytes:
        """The authority's private key."""
        return _key_pem(self._key)

    def enrol(self, device: str, csr_pem: str, now: datetime, days: int) -> str:
        """Return a certificate for ``device`` over the key in a certificate request.

        Raises:
            InputError: the request is malformed, not signed by its own key, or of another kind
                of key than EC P-256 or P-384.
        """
        name = device_name(device)
        hint = "make one with 'whimbrel fleet enrol'"
        if len(csr_pem) > _MAX_CSR_BYTES:
            raise InputError(
                f"the certificate request of {name} is {len(csr_pem)} bytes long",
                hint=hint,
                code="input.csr",
            )
        try:
            request = x509.load_pem_x509_csr(csr_pem.encode("ascii", "replace"))
            valid = request.is_signature_valid
            public = request.public_key()
        except Exception as error:  # the parser raises many kinds for bad bytes
            raise InputError(
                f"the certificate request of {name} cannot be read: {error}",
                hint=hint,
                code="input.csr",
            ) from error
        if not valid:
            raise InputError(
                f"the certificate request of {name} is not signed by its own key",
                hint=hint,
                code="input.csr",
            )
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in {
            "secp256r1",
            "secp384r1",
        }:
            raise InputError(
                f"the certificate request of {name} is over {type(public).__name__}; "
                "an EC key on P-256 or P-384 is needed",
                hint=hint,
                code="input.csr",
            )
        return self._sign(name, public, now, days, client=True)

    def issue(self, name: str, now: datetime, hosts: tuple[str, ...] = ()) -> tuple[str, bytes]:
        """Return certificate and key for a part of the fleet itself.

        With ``hosts``, the names and addresses that devices call it, it is the broker; without,
        the server as the broker's client.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        pem = self._sign(name, key.public_key(), now, _SERVICE_DAYS, client=not hosts, hosts=hosts)
        return pem, _key_pem(key)

    def _sign(
        self,
        name: str,
        public: ec.EllipticCurvePublicKey,
        now: datetime,
        days: int,
        *,
        client: bool,
        hosts: tuple[str, ...] = (),
    ) -> str:
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        until = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]),
                critical=False,
            )
        return _pem(builder.sign(self._key, hashes.SHA256()))


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read.

    Raises:
        UsageError: it exists; it was not touched.
        StorageError: it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"there is a {path} already; it was not touched",
            hint="choose another folder, or move it away",
            code="conflict",
        ) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)


def now_utc() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
