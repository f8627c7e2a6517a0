"""Keys on PKCS#11 tokens: where one is, its PIN, its public half, a new one.

Signing is securesystemslib's `HSMSigner`; here is what it leaves to others. A token's PIN is never
part of a command line: it comes from a file (``--password-file``, or ``pin-source`` in the URI),
or is asked for on a terminal. It is tried once: tokens lock themselves after a few wrong ones.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import msgspec

from whimbrel_core.errors import TrustError, UsageError, WhimbrelError
from whimbrel_core.signing.keys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import HSMSigner  # type: ignore[attr-defined]  # not listed

_MODULE = "PYKCS11LIB"  # the variable that securesystemslib reads
_DEFAULT_ID = 2  # PIV's slot for signatures, as in securesystemslib


class Place(msgspec.Struct, frozen=True):
    """Where a key is: token, and label or number of the key; empty and None: the only one."""

    module: str
    token: str = ""
    label: str = ""
    number: int | None = None


class Pin:
    """A PIN, asked for once, and only when it is needed; a `SecretsHandler`."""

    def __init__(self, file: Path | None, uri: str = "") -> None:
        query = dict(parse_qsl(uri.partition("?")[2]))
        source = query.get("pin-source", "").removeprefix("file:")
        self._file = file or (Path(source) if source else None)
        self._uri = uri.partition("?")[0]
        self._pin: str | None = None

    def __call__(self, secret: str) -> str:
        """Return the PIN. Raises `UsageError`: there is no way to learn it."""
        if self._pin is None:
            self._pin = self._ask(secret)
        return self._pin

    def _ask(self, secret: str) -> str:
        if self._file is not None:
            try:
                return self._file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{self._file} cannot be read: {error}") from error
        if not sys.stdin.isatty():
            raise UsageError(
                f"{self._uri} needs its {secret}, and there is nobody to ask",
                hint="put it into a file, and give --password-file, or pin-source=FILE in the URI",
                code="usage.pin",
            )
        return getpass.getpass(f"{secret} of {self._uri}: ")


def parse(uri: str) -> Place:
    """Return the place that a ``pkcs11:`` (RFC 7512) or ``hsm:`` URI names.

    Raises:
        UsageError: it names no module, or has a part that is not understood.

    >>> parse("pkcs11:token=release;object=bundle?module-path=/m.so")
    Place(module='/m.so', token='release', label='bundle', number=None)
    >>> parse("hsm:1?label=release&module-path=/m.so")
    Place(module='/m.so', token='release', label='', number=1)
    """
    scheme, _, rest = uri.partition(":")
    path, _, query_text = rest.partition("?")
    query = dict(parse_qsl(query_text))
    if "pin-value" in query:
        raise UsageError(
            "a PIN in a URI is seen by everybody on the machine",
            hint="put it into a file, and say pin-source=FILE",
        )
    module = query.get("module-path") or os.environ.get(_MODULE, "")
    if not module:
        raise UsageError(
            f"{uri.partition('?')[0]}: no PKCS#11 module was named",
            hint=f"add ?module-path=/usr/lib/…so to the URI, or set {_MODULE}",
            code="usage.module",
        )
    number: int | None
    if scheme == "hsm":
        try:
            number = int(path) if path else _DEFAULT_ID
        except ValueError:
            raise UsageError(
                f"{uri!r}: after hsm: comes the key's number", hint="say hsm:2?label=TOKEN"
            ) from None
        return Place(module, query.get("label", ""), number=number)
    parts = dict(part.partition("=")[::2] for part in path.split(";") if part)
    unknown = sorted(set(parts) - {"token", "object", "id", "type"})
    if unknown:
        raise UsageError(
            f"{uri!r}: {unknown[0]}= is not understood", hint="token=, object= and id= are"
        )
    number = int.from_bytes(unquote_to_bytes(parts["id"])) if "id" in parts else None
    return Place(module, unquote(parts.get("token", "")), unquote(parts.get("object", "")), number)


def public(place: Place, pin: Pin, *, private: bool = False) -> PublicKey:
    """Return a token's public key; with ``private``, see that its private half may be used.

    Raises:
        UsageError: there is no such token or key, or the module is not there.
        TrustError: the PIN is wrong, or the key is of a kind that is not accepted.
    """
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from pkcs11 import ObjectClass
    from pkcs11.util.ec import encode_ec_public_key

    # Without the PIN a token shows public halves; those who sign are asked for it now.
    with _session(place, pin if private else None) as session:
        if private:
            _find(session, place, ObjectClass.PRIVATE_KEY)
        found = _find(session, place, ObjectClass.PUBLIC_KEY)
        key = load_der_public_key(encode_ec_public_key(found))
    return PublicKey(key)  # type: ignore[arg-type]  # it is an EC key: only those were looked for


def signer(place: Place, key: PublicKey, pin: Pin) -> HSMSigner:
    """Return securesystemslib's signer for a key whose public half is known."""
    from pkcs11 import Attribute, ObjectClass
    from securesystemslib.signer import HSMSigner  # type: ignore[attr-defined]

    from whimbrel_packager.signing.tuf_signer import tuf_key

    with _session(place, pin) as session:
        found = _find(session, place, ObjectClass.PUBLIC_KEY)
        number = int.from_bytes(found[Attribute.ID])

    class OnModule(HSMSigner):
        """Reads the module's path from the URI, where HSMSigner reads the environment alone."""

        def sign(self, payload: bytes) -> Any:  # noqa: ANN401 - securesystemslib's Signature
            with _module(place):
                return super().sign(payload)

    return OnModule(number, tuf_key(key), pin, place.token or None)


def generate(place: Place, pin: Pin) -> PublicKey:
    """Make a P-256 key that never leaves the token; return its public half.

    Raises:
        UsageError: it has no label, or there is such a key already; that was not touched.
        TrustError: the PIN is wrong, or the token refuses.
    """
    from pkcs11 import Attribute, KeyType, ObjectClass
    from pkcs11.util import biginteger
    from pkcs11.util.ec import encode_named_curve_parameters

    if not place.label:
        raise UsageError("a new key needs a label", hint="say object=NAME in the URI")
    with _session(place, pin, write=True) as session:
        keys = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))
        taken = {int.from_bytes(key[Attribute.ID]) for key in keys}
        number = place.number or next(n for n in range(1, 1 << 16) if n not in taken)
        if place.label in {key.label for key in keys} or number in taken:
            raise UsageError(
                f"there is a key {place.label} (id {number}) on that token; it was not touched",
                hint="choose another object= and id=",
                code="usage.exists",
            )
        curve = encode_named_curve_parameters("secp256r1")
        domain = session.create_domain_parameters(
            KeyType.EC, {Attribute.EC_PARAMS: curve}, local=True
        )
        domain.generate_keypair(store=True, id=biginteger(number), label=place.label)
    return public(place, pin)


@contextlib.contextmanager
def _session(place: Place, pin: Pin | None, *, write: bool = False) -> Iterator[Any]:
    import pkcs11
    from pkcs11 import exceptions

    secret = pin("PIN") if pin is not None else None
    try:
        if not Path(place.module).exists():
            raise UsageError(
                f"the PKCS#11 module {place.module} is not there",
                hint="install the token's software, and give the path of its .so",
                code="usage.module",
            )
        token = pkcs11.lib(place.module).get_token(
            token_label=place.token or None, token_flags=pkcs11.TokenFlag.TOKEN_INITIALIZED
        )
        with token.open(user_pin=secret, rw=write) as session:
            yield session
    except WhimbrelError:
        raise
    except exceptions.NoSuchToken as error:
        raise UsageError(
            f"there is no token {place.token!r}" if place.token else "there is no token",
            hint="is it plugged in? 'pkcs11-tool --list-slots --module …' lists them",
            code="usage.token",
        ) from error
    except exceptions.MultipleTokensReturned as error:
        raise UsageError("there are several tokens", hint="say token=LABEL in the URI") from error
    except (exceptions.PinIncorrect, exceptions.PinLenRange, exceptions.PinInvalid) as error:
        raise TrustError(
            "the PIN is wrong; it was tried once",
            hint="tokens lock themselves after a few wrong PINs: look before trying again",
            code="trust.pin",
        ) from error
    except exceptions.PinLocked as error:
        raise TrustError(
            "the token has locked itself after wrong PINs",
            hint="unlock it with its security officer's PIN",
            code="trust.pin",
        ) from error


def _find(session: Any, place: Place, kind: Any) -> Any:  # noqa: ANN401 - python-pkcs11 has no types
    from pkcs11 import KeyType, exceptions
    from pkcs11.util import biginteger

    number = biginteger(place.number) if place.number is not None else None
    half = "private" if "PRIVATE" in kind.name else "public"
    what = f"key {place.label or ''}" + (f" id {place.number}" if place.number is not None else "")
    try:
        return session.get_key(kind, KeyType.EC, label=place.label or None, id=number)
    except exceptions.NoSuchKey as error:
        raise UsageError(
            f"the token has no {half} EC {what.strip()}",
            hint="'pkcs11-tool --list-objects --module …' lists them; "
            "'whimbrel keys new NAME --token URI' makes one",
            code="usage.key",
        ) from error
    except exceptions.MultipleObjectsReturned as error:
        raise UsageError(
            f"the token has several {half} EC keys of that name",
            hint="say object=LABEL or id=%01 in the URI",
        ) from error


@contextlib.contextmanager
def _module(place: Place) -> Iterator[None]:
    before = os.environ.get(_MODULE)
    os.environ[_MODULE] = place.module
    try:
        yield
    finally:
        if before is None:
            del os.environ[_MODULE]
        else:
            os.environ[_MODULE] = before
