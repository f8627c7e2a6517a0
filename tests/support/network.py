"""Keep the tests on this machine: whoever reaches for another address fails.

An audit hook sees every socket call of this process, whatever library makes it: nothing is
patched, so nothing is missed by importing early. Programs that a test starts are not seen.
"""

from __future__ import annotations

import ipaddress
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESSED = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
RESOLVED = {"socket.getaddrinfo", "socket.gethostbyname"}
LOCAL_NAMES = {"localhost", "ip6-localhost", "localhost.localdomain"}

_offences: list[str] = []


class OutsideNetworkError(RuntimeError):
    """A test reached for an address that is not this machine's loopback."""


def is_local(host: object) -> bool:
    """Whether ``host`` (a name, an address, or None for "this machine") stays on this machine."""
    if host is None:
        return True
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str):
        return False
    if host.lower() in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def offence(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Return what an audited call did wrong, or None where it may go on."""
    if event in RESOLVED:
        return None if is_local(arguments[0]) else f"{event} of {arguments[0]!r}"
    if event not in ADDRESSED:
        return None
    address = arguments[1]
    # Unix sockets have a path, connected ones no address at all; netlink has two numbers.
    if not isinstance(address, tuple) or not address or isinstance(address[0], int):
        return None
    return None if is_local(address[0]) else f"{event} to {address!r}"


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith("socket."):
        return
    wrong = offence(event, arguments)
    if wrong is not None:
        _offences.append(wrong)
        msg = f"a test may use the loopback addresses only, and this was a {wrong}"
        raise OutsideNetworkError(msg)


def pytest_configure() -> None:
    """Put the guard in place; an audit hook stays until the process ends."""
    sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _loopback_only() -> Iterator[None]:
    """Fail the test in whose time the guard refused something, even if the error was caught."""
    _offences.clear()
    yield
    caught, _offences[:] = list(_offences), []
    if caught:
        pytest.fail("reached beyond this machine: " + "; ".join(caught))


@pytest.fixture
def offences() -> list[str]:
    """Hand over the record of refused calls, for the tests of the guard itself."""
    return _offences
