"""Heads of requests that the parser has passed, remembered byte for byte.

A client that stays sends the same head again and again. With a body of the length that it states,
the same bytes at the start of a message mean the same again, so they are looked up and not parsed
(a third of what the worker itself spends on a request).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from whimbrel_agent.serving.routes import InferRoute

END_OF_HEAD = b"\r\n\r\n"
# How many are remembered, and how long one may be: 128 KB at most, forgotten all at once.
_MAX_HEADS = 128
_MAX_HEAD_BYTES = 1024


class KnownHead(NamedTuple):
    """What the parser made of a head: a plain inference request on a connection that stays."""

    route: InferRoute
    body_bytes: int


class KnownHeads(dict[bytes, KnownHead]):
    """Heads by their bytes; looking one up is a dictionary's own ``get``."""

    def remember(self, buffer: memoryview, nbytes: int, route: InferRoute, body_bytes: int) -> None:
        """Remember the head of the message that has just been parsed, if it was all that came.

        Only then are the head up to the first empty line and the body together all the bytes: a
        chunked body has its framing between, and a message before this one would be longer.
        """
        size = nbytes - body_bytes
        if not len(END_OF_HEAD) < size <= _MAX_HEAD_BYTES:
            return
        head = bytes(buffer[:size])
        if head.find(END_OF_HEAD) + len(END_OF_HEAD) != size:
            return
        if len(self) >= _MAX_HEADS:
            self.clear()
        self[head] = KnownHead(route, body_bytes)
