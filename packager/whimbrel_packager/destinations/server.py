"""The fleet server: files in pieces, then metadata, which it verifies and puts in place.

Root, targets and bundle keys stay here. Snapshot and timestamp are the server's to sign, so what
it names for them is read and never written.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from whimbrel_core.errors import (
    InputError,
    RefusedError,
    StorageError,
    TrustError,
    UnavailableError,
    UsageError,
    WhimbrelError,
)
from whimbrel_packager.destinations.http import Http
from whimbrel_packager.destinations.port import ConflictError

if TYPE_CHECKING:
    from whimbrel_packager.destinations.http import Answer

PIECE_BYTES = 4 << 20
_OK, _DENIED, _NOT_FOUND, _CONFLICT = 200, 401, 404, 409
_KINDS: dict[int, type[WhimbrelError]] = {
    400: InputError,
    _DENIED: TrustError,
    403: TrustError,
    _NOT_FOUND: UsageError,
    _CONFLICT: UsageError,
    413: InputError,
    422: RefusedError,
    503: UnavailableError,
    507: StorageError,
}
_ATTEMPTS = 5
T = TypeVar("T")


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""
    code: str = ""
    hint: str | None = None


class _Contents(msgspec.Struct, frozen=True):
    metadata: tuple[str, ...]


class _Upload(msgspec.Struct, frozen=True):
    received: int
    complete: bool


class FleetServer:
    """A repository that a fleet server keeps.

    Args:
        url: of the server.
        token: the operator's.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.where = url.rstrip("/")
        self._http = Http(self.where, what=f"the fleet server {self.where}")
        self._headers = {"accept": "application/json"}
        with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
            self._headers["whimbrel-actor"] = f"{getpass.getuser()} publishing"
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, None when it is not there."""
        answer = self._http.ask("GET", f"/repository/{quote(path)}")
        if answer.status == _NOT_FOUND:
            return None
        return self._checked(answer).body

    def names(self, folder: str) -> list[str]:
        """Return the names of the metadata files; the server lists no other folder."""
        if folder != "metadata":
            raise UsageError(f"{self.where} does not list {folder}")
        answer = self._http.ask("GET", "/api/v1/repository", headers=self._headers)
        return list(self._decoded(answer, _Contents).metadata)

    def store(self, path: str, data: bytes) -> None:
        """Send a file that metadata will name, in pieces, from where an earlier try stopped."""
        there = self._http.ask("HEAD", f"/repository/{quote(path)}")
        if there.status == _OK and there.headers.get("content-length") == str(len(data)):
            return
        digest = hashlib.sha256(data).hexdigest()
        failures = 0
        state = self._received(digest)
        while not state.complete:
            piece = data[state.received : state.received + PIECE_BYTES]
            try:
                state = self._append(digest, state.received, len(data), piece)
            except WhimbrelError as error:
                # The piece may have arrived although its answer did not: ask, and go on.
                failures += 1
                if failures == _ATTEMPTS or not (error.retryable or error.code == "conflict"):
                    raise
                state = self._received(digest)

    def create(self, path: str, data: bytes) -> None:
        """Publish metadata: the server verifies it and all that it names.

        Raises:
            ConflictError: somebody else published meanwhile.
            UsageError: the server signs this role itself.
        """
        if path.endswith(".snapshot.json"):
            raise self._own(path)
        answer = self._http.ask(
            "PUT",
            f"/api/v1/repository/{quote(path)}",
            body=data,
            headers={**self._headers, "content-type": "application/json"},
        )
        if answer.status == _CONFLICT:
            raise ConflictError.over(path, self.where)
        self._checked(answer)

    def replace(self, path: str, data: bytes, *, seen: bytes | None) -> None:
        """Refuse: the server signs the timestamp. Raises `UsageError`."""
        del data, seen
        raise self._own(path)

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Hold nothing: the server takes one publication after the other."""
        return contextlib.nullcontext()

    def _received(self, digest: str) -> _Upload:
        """Return how much of a file the server has."""
        path = f"/api/v1/repository/uploads/{quote(digest)}"
        return self._decoded(self._http.ask("GET", path, headers=self._headers), _Upload)

    def _append(self, digest: str, offset: int, length: int, piece: bytes) -> _Upload:
        """Send a piece of a file."""
        answer = self._http.ask(
            "PATCH",
            f"/api/v1/repository/uploads/{quote(digest)}?offset={offset}&length={length}",
            body=piece,
            headers={**self._headers, "content-type": "application/octet-stream"},
        )
        return self._decoded(answer, _Upload)

    def _decoded(self, answer: Answer, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self._checked(answer).body, type=kind)
        except msgspec.DecodeError as error:
            raise self._foreign(answer) from error

    def _checked(self, answer: Answer) -> Answer:
        if answer.good:
            return answer
        kind = _KINDS.get(answer.status, UnavailableError if answer.status >= 500 else UsageError)  # noqa: PLR2004
        try:
            problem = msgspec.json.decode(answer.body, type=_Problem)
        except msgspec.DecodeError:
            raise self._foreign(answer) from None
        if not problem.code:
            raise self._foreign(answer)
        hint = problem.hint
        if answer.status == _DENIED:
            hint = "give a file with the operator token: --token-file, or WHIMBREL_FLEET_TOKEN_FILE"
        raise kind(f"{self.where}: {problem.detail}", hint=hint, code=problem.code)

    def _own(self, path: str) -> UsageError:
        return UsageError(
            f"{self.where} signs {path} itself",
            hint="leave out --online-keys: these keys are the server's",
        )

    def _foreign(self, answer: Answer) -> UsageError:
        return UsageError(
            f"{self.where} answered {answer.status}, and not as a Whimbrel server does",
            hint="does the address lead to a fleet server, of this version, or to something in "
            "front of it that refuses large bodies?",
            code="fleet.answer",
        )
