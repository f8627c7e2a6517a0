"""What a download cost the device's network, whether it succeeded, failed or was killed."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_agent.update.transport import Transport

_TALLY_BYTES = 8


class Metered:
    """A transport that counts what came through it, in a file, too: ``tally``, eight bytes.

    A download that fails has cost the device's network as much as one that succeeds, and a process
    that is killed cannot say how much: control reads the file when the process has ended.
    """

    def __init__(self, source: Transport, tally: Path) -> None:
        self._source = source
        self._descriptor = -1
        self.bytes = 0
        with contextlib.suppress(OSError):  # what cannot be counted is fetched nevertheless
            self._descriptor = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def chunks(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of ``path`` from ``offset`` on; see `transport.Transport`."""
        for piece in self._source.chunks(path, offset):
            self.bytes += len(piece)
            if self._descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.pwrite(self._descriptor, self.bytes.to_bytes(_TALLY_BYTES, "big"), 0)
            yield piece

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def take_tally(tally: Path) -> int:
    """Return the bytes that a `Metered` transport counted in ``tally``, and remove the file."""
    try:
        counted = tally.read_bytes()
        tally.unlink()
    except OSError:
        return 0
    return int.from_bytes(counted[:_TALLY_BYTES], "big")
