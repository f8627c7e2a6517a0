"""An OCI registry: bundles by name and version, to be kept beside images and pulled from anywhere.

A registry keeps no repository: no release counters, no revocation, nothing that devices follow. A
bundle's own signature is what counts; it is verified before it is pushed and after it was pulled.
Blobs go first, then the manifest under its tag, the version, which is never given other content.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec

from whimbrel_core.errors import (
    RefusedError,
    StorageError,
    TrustError,
    UnavailableError,
    UsageError,
    WhimbrelError,
)
from whimbrel_packager.destinations import logins, modelpack
from whimbrel_packager.destinations.http import LOOPBACK, Http

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_packager.destinations.http import Answer

PIECE_BYTES = 16 << 20
_MANIFEST_LIMIT = 4 << 20  # as registries have it
_REFERENCE = re.compile(
    r"oci://(?P<host>[^/@\s]+)/(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_CREATED, _NOT_FOUND = 201, 404


class Reference(NamedTuple):
    """``oci://host/name:tag``, or with ``@sha256:…`` for exactly one."""

    host: str
    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return what a text names. Raises `UsageError`."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise UsageError(
                f"{text} is not the name of an artifact",
                hint="give oci://HOST/NAME or oci://HOST/NAME:TAG; names are in lower case",
            )
        return cls(match["host"], match["name"], match["tag"] or "", match["digest"] or "")

    def __str__(self) -> str:
        """The reference as it is given."""
        tag, digest = f":{self.tag}" * bool(self.tag), f"@{self.digest}" * bool(self.digest)
        return f"oci://{self.host}/{self.name}{tag}{digest}"


class Pushed(NamedTuple):
    """Where a bundle is: by tag, and by the digest of its manifest; whether it is new there."""

    reference: Reference
    digest: str
    fresh: bool
    sent_bytes: int


class _Error(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: tuple[_Error, ...] = ()


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class Registry:
    """One repository of a registry.

    Args:
        reference: its host and name are used.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        # As other tools: registries on this machine speak HTTP, others HTTPS.
        plain = urlsplit(f"//{reference.host}").hostname in LOOPBACK
        base = f"{'http' if plain else 'https'}://{reference.host}"
        self._http = Http(base, what=f"the registry {reference.host}")
        self._root = f"/v2/{reference.name}"
        self._authorization = ""

    def push(
        self, bundle: bytes, manifest: Manifest, report: Callable[[str], None] | None = None
    ) -> Pushed:
        """Put a bundle there, under its version or the tag of the reference.

        Args:
            bundle: its bytes, verified by the caller.
            manifest: of the bundle.
            report: called with each stage.

        Raises:
            RefusedError: the tag has other content; it was not touched.
            TrustError: the registry does not let us in.
            UnavailableError: it does not answer; the tag is as it was.
        """
        tell = report or (lambda _stage: None)
        made = modelpack.artifact(bundle, manifest)
        tag = self._reference.tag or manifest.version.replace("+", "_")  # a tag has no +
        where = self._reference._replace(tag=tag, digest="")
        digest = f"sha256:{hashlib.sha256(made.manifest).hexdigest()}"
        there = self._tagged(tag)
        if there == digest:
            return Pushed(where, digest, fresh=False, sent_bytes=0)
        if there:
            raise _taken(where, there)
        sent = 0
        for number, (name, data) in enumerate(made.blobs.items(), start=1):
            tell(f"sending file {number} of {len(made.blobs)}")
            sent += self._send(name, data)
        tell("naming it")
        answer = self._ask(
            "PUT",
            f"{self._root}/manifests/{tag}",
            body=made.manifest,
            headers={"content-type": modelpack.MANIFEST_TYPE},
        )
        self._require(answer, f"take the manifest of {where}")
        # Registries have no conditional write: whoever named the same tag meanwhile has won.
        there = self._tagged(tag)
        if there != digest:
            raise _taken(where, there)
        return Pushed(where, digest, fresh=True, sent_bytes=sent)

    def pull(self) -> tuple[bytes, str]:
        """Return the ``.whim`` and the digest of its manifest. Its signature is NOT verified here.

        Raises:
            UsageError: there is none of this name.
            TrustError: bytes are not what the manifest names, or we are not let in.
        """
        what = str(self._reference)
        wanted = self._reference.digest or self._reference.tag
        if not wanted:
            raise UsageError(f"{what} names no version", hint=f"give {what}:VERSION")
        answer = self._ask(
            "GET",
            f"{self._root}/manifests/{wanted}",
            headers={"accept": modelpack.MANIFEST_TYPE},
        )
        if answer.status == _NOT_FOUND:
            raise UsageError(
                f"there is no {what}", hint="is the version published there?", code="not_found"
            )
        data = self._require(answer, f"give {what}").body
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if len(data) > _MANIFEST_LIMIT or self._reference.digest not in {"", digest}:
            raise TrustError(f"{what} is another manifest: {digest}", code="trust.digest")
        manifest = modelpack.read(data, what)
        layers = {layer.digest: layer for layer in manifest.layers}
        blobs = {digest: self._blob(layer, what) for digest, layer in layers.items()}
        return modelpack.bundle(manifest, blobs, what), digest

    def _blob(self, layer: modelpack.Descriptor, what: str) -> bytes:
        answer = self._ask("GET", f"{self._root}/blobs/{layer.digest}")
        data = self._require(answer, f"give a file of {what}").body
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != layer.digest:
            raise TrustError(
                f"a file of {what} is not what its manifest names", code="trust.digest"
            )
        return data

    def _tagged(self, tag: str) -> str:
        """Return the digest that a tag has; "" for none."""
        answer = self._ask(
            "GET", f"{self._root}/manifests/{tag}", headers={"accept": modelpack.MANIFEST_TYPE}
        )
        if answer.status == _NOT_FOUND:
            return ""
        data = self._require(answer, f"give {tag}").body
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    def _send(self, digest: str, data: bytes) -> int:
        if self._ask("HEAD", f"{self._root}/blobs/{digest}").good:
            return 0
        answer = self._require(self._ask("POST", f"{self._root}/blobs/uploads/"), "take files")
        for start in range(0, len(data), PIECE_BYTES) if len(data) > PIECE_BYTES else ():
            piece = data[start : start + PIECE_BYTES]
            answer = self._ask(
                "PATCH",
                self._location(answer),
                body=piece,
                headers={
                    "content-type": "application/octet-stream",
                    "content-range": f"{start}-{start + len(piece) - 1}",
                },
            )
            self._require(answer, "take a piece of a file")
        location = self._location(answer)
        answer = self._ask(
            "PUT",
            f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}",
            body=data if len(data) <= PIECE_BYTES else b"",
            headers={"content-type": "application/octet-stream"},
        )
        self._require(answer, "take a file")
        return len(data)

    def _location(self, answer: Answer) -> str:
        location = answer.headers.get("location", "")
        if not location:
            raise UnavailableError(f"{self._reference.host} does not say where to send files")
        return urljoin(self._http.base, location)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Ask, and show who we are when the registry wants to know."""
        own = urlsplit(path).netloc in {"", urlsplit(self._http.base).netloc}
        answer = self._http.ask(method, path, body=body, headers=self._signed(headers, own=own))
        if answer.status == 401 and own and self._admit(answer):  # noqa: PLR2004 - unauthorised
            answer = self._http.ask(method, path, body=body, headers=self._signed(headers, own=own))
        return answer

    def _signed(self, headers: dict[str, str] | None, *, own: bool) -> dict[str, str]:
        known = {"authorization": self._authorization} if self._authorization and own else {}
        return {**(headers or {}), **known}

    def _admit(self, answer: Answer) -> bool:
        """Follow a challenge; return whether there is something new to say."""
        scheme, _, rest = answer.headers.get("www-authenticate", "").partition(" ")
        values = dict(_CHALLENGE.findall(rest))
        login = logins.find(self._reference.host)
        before = self._authorization
        if scheme.lower() == "basic" and login is not None:
            self._authorization = login.basic
        elif scheme.lower() == "bearer" and _private(values.get("realm", "")):
            asked = {
                "service": values.get("service", ""),
                "scope": values.get("scope") or f"repository:{self._reference.name}:pull,push",
            }
            given = self._http.ask(
                "GET",
                f"{values['realm']}?{urlencode(asked)}",
                headers={"authorization": login.basic} if login is not None else {},
            )
            if given.good:
                token = msgspec.json.decode(given.body, type=_Token)
                self._authorization = f"Bearer {token.token or token.access_token}"
        return self._authorization != before

    def _require(self, answer: Answer, what: str) -> Answer:
        if answer.good:
            return answer
        try:
            errors = msgspec.json.decode(answer.body, type=_Errors).errors
        except msgspec.DecodeError:
            errors = ()
        said = "; ".join(e.message or e.code for e in errors) or f"HTTP {answer.status}"
        message = f"the registry {self._reference.host} did not {what}: {said}"
        kind: type[WhimbrelError] = UnavailableError
        hint = "publish again: files that are there already are not sent twice"
        if answer.status in {401, 403}:
            kind, hint = TrustError, f"log in: docker login {self._reference.host}"
        elif answer.status in {413, 507}:
            kind, hint = StorageError, "raise its limit or quota, then publish again"
        elif answer.status in {400, 404, 405}:
            kind, hint = UsageError, "is it an OCI registry, and the name one that it allows?"
        raise kind(message, hint=hint, code="access.registry" if kind is TrustError else None)


def _private(address: str) -> bool:
    """Return whether a password may be sent there."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _taken(where: Reference, there: str) -> RefusedError:
    return RefusedError(
        f"{where} is published already, with other content ({there[:19]}…); it was not touched",
        hint="a published version never changes: pack with a new --version",
        code="refused.version",
    )
