"""Signers: a key file, a hardware token, a cloud's key service or Vault, all behind one word.

Where a key is, is said by the path of a PEM file, by a URI, or by a ``.uri`` file that holds one
(``whimbrel keys import`` writes it, with the public key beside it). Schemes are those of
securesystemslib, and ``pkcs11:`` of RFC 7512:

    keys/bundle.pem
    pkcs11:token=release;object=bundle?module-path=/usr/lib/softhsm/libsofthsm2.so
    hsm:1?label=release                 awskms:alias/bundle
    gcpkms:projects/…/cryptoKeyVersions/1   azurekms://VAULT.vault.azure.net/keys/bundle
    hv:bundle                           (Vault or OpenBao, transit engine)

Whatever signs elsewhere is checked here: a signature that its own public key does not verify is
never used. Such signatures are not deterministic, so signing again gives other bytes.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from whimbrel_core.errors import TrustError, UnavailableError, UsageError, WhimbrelError
from whimbrel_core.signing.keys import PublicKey
from whimbrel_packager.signing import hsm, keyfiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import (  # type: ignore[attr-defined]  # public, not listed
        Signer as TheirSigner,
    )

    from whimbrel_core.signing.keys import Signer

_URI = re.compile(r"[a-z][a-z0-9+.-]+:\S")
_SCHEMES = {"ecdsa-sha2-nistp256": 32, "ecdsa-sha2-nistp384": 48}  # bytes of r and of s
# Schemes of securesystemslib that are of no use here: other kinds of keys, or plain files.
_NOT_OURS = {"file2", "gnupg", "tkey"}
_EXTRAS = {
    "hsm": "hsm",
    "pkcs11": "hsm",
    "hv": "vault",
    "awskms": "aws",
    "gcpkms": "gcp",
    "azurekms": "azure",
}
# What the libraries of these services raise when nobody answers, by name: none is imported here.
_UNREACHABLE = {
    "ConnectionError", "ConnectTimeout", "ReadTimeout", "EndpointConnectionError",
    "ConnectTimeoutError", "ServiceUnavailable", "DeadlineExceeded", "ServiceRequestError",
    "VaultDown",
}  # fmt: skip


def is_uri(where: Path | str) -> bool:
    """Return whether ``where`` is a key's URI, and no path of a file.

    >>> is_uri("pkcs11:token=release"), is_uri("keys/bundle.pem")
    (True, False)
    """
    text = str(where)
    return bool(_URI.match(text)) and not Path(text).exists()


def load(where: Path | str, password_file: Path | None = None) -> Signer:
    """Return what signs with the key at ``where``; see the module.

    Args:
        where: path of a PEM or ``.uri`` file, or a URI.
        password_file: holds the password of an encrypted key file, or the PIN of a token.

    Raises:
        UsageError: there is no such key, or what reads it is not installed.
        TrustError: it may not be used, or is of a kind that is not accepted.
        UnavailableError: the service that has it does not answer.
    """
    if is_uri(where):
        return _remote(str(where), None, password_file)
    path = Path(where)
    if path.suffix == ".uri":
        beside = path.with_suffix(".pub")
        known = keyfiles.public(beside) if beside.is_file() else None
        return _remote(_read_uri(path), known, password_file)
    return keyfiles.private(path, password_file)


def public(where: Path | str, password_file: Path | None = None) -> PublicKey:
    """Return the public key at ``where``, a public key's file also; errors as in `load`."""
    if is_uri(where):
        return fetch_public(str(where), password_file)[1]
    path = Path(where)
    if path.suffix == ".uri":
        beside = path.with_suffix(".pub")
        if beside.is_file():
            return keyfiles.public(beside)
        return fetch_public(_read_uri(path), password_file)[1]
    return keyfiles.public(path, password_file)


def fetch_public(uri: str, password_file: Path | None = None) -> tuple[str, PublicKey]:
    """Ask whoever holds a key for its public half; return it with the URI that signs with it.

    Raises:
        UsageError, TrustError, UnavailableError: as in `load`.
    """
    scheme = _scheme(uri)
    with _named(uri):
        if scheme in {"pkcs11", "hsm"}:
            return uri, hsm.public(hsm.parse(uri), hsm.Pin(password_file, uri))
        if scheme == "hv":
            return _from_vault(uri)
        arguments = _azure(uri) if scheme == "azurekms" else (uri.partition(":")[2],)
        found, key = _signer_class(uri).import_(*arguments)
        return found, _public(key)


def _remote(uri: str, known: PublicKey | None, password_file: Path | None) -> Signer:
    scheme = _scheme(uri)
    if scheme in {"pkcs11", "hsm"}:
        pin = hsm.Pin(password_file, uri)
        with _named(uri):
            place = hsm.parse(uri)
            # A wrong PIN or a missing key is found now, not after minutes of work.
            held = hsm.public(place, pin, private=True)
            if known is not None and known.id != held.id:
                raise TrustError(
                    f"{uri} is key {held.id[:12]}, and the .pub file beside it says {known.id[:12]}",
                    hint="import it anew with 'whimbrel keys import'",
                    code="trust.key",
                )
            return RemoteSigner(hsm.signer(place, held, pin), uri)
    # With securesystemslib come the libraries of every service: not for a key in a file.
    from whimbrel_packager.signing.tuf_signer import tuf_key

    with _named(uri):
        if known is None or scheme == "hv":
            uri, found = fetch_public(uri, password_file)
            known = known or found
        theirs = _signer_class(uri).from_priv_key_uri(
            uri, tuf_key(known), hsm.Pin(password_file, uri)
        )
        return RemoteSigner(theirs, uri)


class RemoteSigner:
    """A signer of securesystemslib as core's `Signer`."""

    def __init__(self, signer: TheirSigner, uri: str) -> None:
        self._signer, self._uri = signer, uri
        self.public = _public(signer.public_key)

    def sign(self, data: bytes) -> bytes:
        """Return a DER-encoded ECDSA signature over ``data``, verified.

        Raises:
            TrustError: the key may not be used, or what came back is not its signature.
            UnavailableError: whoever holds it does not answer.
        """
        with _named(self._uri):
            signature = bytes.fromhex(self._signer.sign(data).signature)
        half = _SCHEMES[self._signer.public_key.scheme]
        if len(signature) == 2 * half and not self.public.verifies(signature, data):
            # PKCS#11 and JOSE give r and s side by side; TUF and DSSE take DER.
            r, s = (int.from_bytes(part) for part in (signature[:half], signature[half:]))
            signature = encode_dss_signature(r, s)
        if not self.public.verifies(signature, data):
            raise TrustError(
                f"{self._uri} gave a signature that its public key does not verify; "
                "nothing was signed",
                hint="is the public key that of another key or version? 'whimbrel keys show URI'",
                code="trust.key",
            )
        return signature


def _public(key: Any) -> PublicKey:  # noqa: ANN401 - of securesystemslib, which is not typed
    if key.scheme not in _SCHEMES:
        raise TrustError(
            f"it is a key for {key.scheme}, an EC key on P-256 or P-384 is needed",
            hint="make one of type ECDSA P-256 with SHA-256",
            code="trust.key",
        )
    return PublicKey.from_pem(key.keyval["public"])


def _scheme(uri: str) -> str:
    scheme = uri.partition(":")[0]
    if scheme not in _EXTRAS:
        _signer_class(uri)
    return scheme


def _signer_class(uri: str) -> Any:  # noqa: ANN401 - a class of securesystemslib or of the caller's
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME  # type: ignore[attr-defined]

    scheme = uri.partition(":")[0]
    known = sorted({*SIGNER_FOR_URI_SCHEME, "pkcs11"} - _NOT_OURS)
    if scheme not in known:
        raise UsageError(
            f"{uri!r} is neither a file nor a key's URI: schemes are {', '.join(known)}",
            hint="make a key file with 'whimbrel keys new', or see 'whimbrel keys import --help'",
        )
    return SIGNER_FOR_URI_SCHEME[scheme]


def _azure(uri: str) -> tuple[str, str]:
    """Return the names of the vault and of the key; the newest version is what is imported."""
    found = re.fullmatch(r"azurekms://([^./]+)[^/]*/keys/([^/]+)(/[^/]*)?", uri)
    if found is None:
        raise UsageError(
            "it is not of the form azurekms://VAULT.vault.azure.net/keys/NAME",
            hint="see 'whimbrel keys import --help'",
        )
    return found[1], found[2]


def _from_vault(uri: str) -> tuple[str, PublicKey]:
    """Return the URI with its version, and the public key.

    securesystemslib imports Ed25519 keys of Vault only, though it signs with any.
    """
    import hvac  # type: ignore[import-untyped,unused-ignore]  # an extra

    name, _, version = uri.partition(":")[2].partition("/")
    found = hvac.Client().secrets.transit.read_key(name)["data"]
    version = version or str(found["latest_version"])
    if found["type"] != "ecdsa-p256":
        raise TrustError(
            f"it is of type {found['type']}, ecdsa-p256 is needed",
            hint=f"vault write transit/keys/{name} type=ecdsa-p256",
            code="trust.key",
        )
    if version not in found["keys"]:
        raise TrustError(
            f"it has no version {version}, it has {', '.join(found['keys'])}",
            hint=f"give hv:{name}/{found['latest_version']}",
            code="trust.key",
        )
    return f"hv:{name}/{version}", PublicKey.from_pem(found["keys"][version]["public_key"])


def _read_uri(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the key file {path} cannot be read: {error}", hint="see 'whimbrel keys import'"
        ) from error


@contextlib.contextmanager
def _named(uri: str) -> Iterator[None]:
    """Make the errors of many libraries ours, each naming the key."""
    shown = uri.partition("?")[0]
    try:
        yield
    except WhimbrelError as error:
        if not error.message.startswith(shown):
            raise type(error)(
                f"{shown}: {error.message}", hint=error.hint, code=error.code
            ) from error
        raise
    except Exception as error:
        raise _ours(error, uri, shown) from error


def _ours(error: Exception, uri: str, shown: str) -> WhimbrelError:
    extra = _EXTRAS.get(uri.partition(":")[0], "")
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"UnsupportedLibraryError", "ImportError"}:
        return UsageError(
            f"{shown}: what reads such keys is not installed: {error}",
            hint=f"pip install 'whimbrel-packager[{extra}]'",
            code="usage.missing",
        )
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if names & _UNREACHABLE:
        return UnavailableError(
            f"{shown}: whoever holds the key does not answer ({text})",
            hint="nothing was signed; check address and network, and run it again",
            code="unavailable.signer",
        )
    return TrustError(
        f"{shown}: the key cannot be used ({text})",
        hint="nothing was signed; check the key's name, and that you may sign with it",
        code="trust.key",
    )
