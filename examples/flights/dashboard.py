"""Open every page of the dashboard, as somebody who clicks on everything would."""

from __future__ import annotations

import http.client
import re
from html import unescape
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

_LINK: Final = re.compile(r'<a\b[^>]*\bhref="(/[^"#]*)')


def opened(address: str) -> dict[str, int]:
    """Return the HTTP status of each page that links lead to, from the first page on.

    Of a page that is asked with other parameters, every choice is opened once.
    """
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    found: dict[str, int] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        found[path] = answer.status
        html = (answer.getheader("Content-Type") or "").startswith("text/html")
        if answer.status == HTTPStatus.OK and html:
            links = {unescape(link) for link in _LINK.findall(content.decode())}
            waiting.extend(sorted(links - found.keys()))
    connection.close()
    return found
