"""Under which names the server may be asked for: a guard against DNS rebinding.

Where reads are open because the server listens on loopback alone, the operator's own browser could
be turned against it: a page of another site lets its name point to 127.0.0.1, and may then read
whatever that name answers. Such requests carry the other site's name as their ``Host``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from whimbrel_core.errors import TrustError
from whimbrel_server.config import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litestar import Request

FOREIGN_HOST = "access.host"
_MAX_SHOWN = 80


def allowed(public_url: str) -> frozenset[str]:
    """Return the names that a server on loopback answers for: its own, and the one it is known by.

    >>> sorted(allowed("https://fleet.example/x"))
    ['127.0.0.1', '::1', 'fleet.example', 'localhost']
    """
    public = urlsplit(public_url).hostname
    return LOOPBACK | ({public.lower()} if public else set())


def name_of(host: str) -> str:
    """Return a ``Host`` header's name without its port.

    >>> name_of("LocalHost:8500"), name_of("[::1]:8500"), name_of("a.example.")
    ('localhost', '::1', 'a.example')
    """
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    return (name or "").rstrip(".")


def require_host(hosts: Iterable[str] | None, request: Request[Any, Any, Any]) -> None:
    """Refuse a request for a name that is not this server's. Before any handler.

    Raises:
        TrustError: another name; nothing was read or changed.
    """
    host = request.headers.get("host", "")
    if hosts is None or name_of(host) in hosts:
        return
    raise TrustError(
        f"this server does not answer for the name {host[:_MAX_SHOWN]!r}; nothing was shown",
        hint="use its own address, or set [http] public_url to the name that people use",
        code=FOREIGN_HOST,
    )
