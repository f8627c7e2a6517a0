"""Who may read and who may change: one operator token, as a bearer or behind a login cookie.

Rules:

- Changes through the REST interface need ``Authorization: Bearer <token>``. A cookie never
  authorises them, so no page of another site can.
- Reads are open when the configuration says so, or when the server listens on loopback alone;
  else they need the token or the cookie that `Access.session` makes.
- Only an Argon2 hash of the token is kept. Once a token was right, its keyed digest is remembered
  in memory, because Argon2 is slow on purpose and a dashboard asks every few seconds.
- Guesses are checked one at a time: a flood of them takes one core at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from whimbrel_core.errors import ConfigError, TrustError
from whimbrel_server.api.hosts import FOREIGN_HOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.connection import ASGIConnection
    from litestar.handlers.base import BaseRouteHandler

COOKIE = "whimbrel_session"
SESSION_S = 12 * 3600
MAX_TOKEN_CHARS = 256
DENIED = "access.token"
_ACTOR = re.compile(r"[\w.@ -]{1,64}")


def new_token() -> str:
    """Return a new operator token: 256 random bits, safe in a header and in a shell."""
    return "whim_" + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return what the server keeps of a token."""
    return PasswordHasher().hash(token)


class Access:
    """Decides about tokens and sessions. Without a token hash nothing can be changed.

    Args:
        token_hash: `hash_token` of the operator token, or None.
        read_open: whether reads need nothing.
        secure_cookie: mark the cookie ``Secure`` (the dashboard is behind HTTPS).
        clock: seconds since 1970; a parameter for tests.

    Raises:
        ConfigError: the hash is not one.
    """

    def __init__(
        self,
        *,
        token_hash: str | None,
        read_open: bool,
        secure_cookie: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.read_open = read_open
        self.secure_cookie = secure_cookie
        self._hash = token_hash.strip() if token_hash else None
        self._clock = clock
        self._secret = secrets.token_bytes(32)  # a restart ends sessions; nothing to store
        self._known: bytes | None = None
        self._one_at_a_time = asyncio.Lock()
        if self._hash is not None and not self._hash.startswith("$argon2"):
            raise ConfigError(
                "the stored operator token is not an Argon2 hash",
                hint="make a new token with 'whimbrel server init' in a new directory",
                code="config.token",
            )

    async def is_operator(self, token: str) -> bool:
        """Return whether ``token`` is the operator's."""
        if self._hash is None or not token or len(token) > MAX_TOKEN_CHARS:
            return False
        digest = hmac.digest(self._secret, token.encode("utf-8", "replace"), "sha256")
        if self._known is not None:
            return hmac.compare_digest(digest, self._known) or await self._verify(token, digest)
        return await self._verify(token, digest)

    async def _verify(self, token: str, digest: bytes) -> bool:
        async with self._one_at_a_time:
            good = await asyncio.to_thread(self._matches, token)
        if good:
            self._known = digest
        return good

    def _matches(self, token: str) -> bool:
        try:
            return PasswordHasher().verify(self._hash or "", token)
        except (VerificationError, InvalidHashError):
            return False

    def session(self) -> str:
        """Return the value of a session cookie that holds for `SESSION_S` seconds."""
        until = str(int(self._clock()) + SESSION_S)
        return f"{until}.{self._seal(until)}"

    def is_session(self, cookie: str | None) -> bool:
        """Return whether a cookie was made here and still holds."""
        until, _, seal = (cookie or "").partition(".")
        if not hmac.compare_digest(self._seal(until).encode(), seal.encode("utf-8", "replace")):
            return False
        return int(until) > self._clock()

    def _seal(self, until: str) -> str:
        return hmac.new(self._secret, until.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return the token of the Authorization header, "" when there is none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def actor(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return the name for the audit: the operator, with what the client says about itself."""
    said = connection.headers.get("whimbrel-actor", "").strip()
    return f"operator ({said})" if _ACTOR.fullmatch(said) else "operator"


async def may_read(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of everything that shows the fleet.

    Raises:
        TrustError: reads are not open here, and there is neither token nor session.
    """
    access: Access = connection.app.state.access
    if access.read_open or access.is_session(connection.cookies.get(COOKIE)):
        return
    if not await access.is_operator(bearer(connection)):
        raise TrustError(
            "reading this fleet needs the operator token",
            hint="send 'Authorization: Bearer <token>', or log in on /login",
            code=DENIED,
        )


async def may_change(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of everything that changes the fleet. Nothing was changed when it raises.

    Raises:
        TrustError: no operator token.
    """
    access: Access = connection.app.state.access
    if not await access.is_operator(bearer(connection)):
        raise TrustError(
            "changing this fleet needs the operator token; nothing was changed",
            hint="send 'Authorization: Bearer <token>'; 'whimbrel server init' printed it",
            code=DENIED,
        )


async def is_logged_in(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Return whether the browser holds a session; it may then use the dashboard's buttons."""
    access: Access = connection.app.state.access
    return access.is_session(connection.cookies.get(COOKIE))


async def may_press(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of the dashboard's buttons: a session, and a form of this very site.

    Raises:
        TrustError: no session, or the form came from elsewhere. Nothing was changed.
    """
    # The cookie is SameSite=Strict already; this also stops sibling subdomains, which are
    # "same site" to a browser.
    if connection.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise TrustError(
            "this form came from another site; nothing was changed", code="access.origin"
        )
    if not await is_logged_in(connection):
        raise TrustError(
            "this needs a login; nothing was changed",
            hint="log in with the operator token on /login",
            code=DENIED,
        )


STATUS = {
    DENIED: HTTPStatus.UNAUTHORIZED,
    "access.origin": HTTPStatus.FORBIDDEN,
    FOREIGN_HOST: HTTPStatus.MISDIRECTED_REQUEST,
}
