"""Where the judgement of a slot's windows stands, on disk.

``<data_dir>/drift/<slot>.state``: magic, CRC-32, then digest and state as msgpack; about 6 KB for
20 features. ``<data_dir>/rate/<slot>.state`` is alike. It is replaced as a whole, so a crash leaves the old or the new one. A slot has one:
what another bundle left is replaced by the first window that is judged, because its cells are other
cells. A file that cannot be read is set aside by name, and the stream is learnt anew.
"""

from __future__ import annotations

import logging
import struct
import zlib
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from whimbrel_agent.paths import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

State = TypeVar("State", bound=msgspec.Struct)
SUFFIX = ".state"
_MAGIC = b"WHIMDRF1"
_CHECK = struct.Struct("<I")
_MOST_BYTES = 16 << 20  # far above a layout's most features; a larger file is not ours
_log = logging.getLogger("whimbrel.telemetry")


class WatchFile(Generic[State]):
    """The state of one bundle's judgement in one slot.

    Args:
        folder: of the states; it is made when there is something to save.
        slot: whose state it is.
        digest: bundle that it belongs to; "" for a state that outlives bundles.
        form: returns the state's type, which is not loaded before it is needed.
    """

    def __init__(
        self, folder: Path, slot: str, digest: str, form: Callable[[], type[State]]
    ) -> None:
        self.path = folder / f"{slot}{SUFFIX}"
        self._digest = digest
        self._form = form
        self._refused = False

    def load(self) -> State | None:
        """Return the state; None when there is none, or another bundle's."""
        try:
            with self.path.open("rb") as file:
                raw = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain("cannot be read", error)
            return None
        try:
            digest, state = _decode(raw, self._form())
        except ValueError as error:
            _log.warning(
                "%s is damaged (%s): what is usual is learnt anew from the next windows; the file is kept "
                "as %s.damaged",
                self.path.name,
                error,
                self.path.name,
            )
            self._set_aside()
            return None
        return state if digest == self._digest else None

    def save(self, state: State) -> None:
        """Replace the file; a disk that refuses is logged once, and the old file is as it was."""
        body = msgspec.msgpack.encode((self._digest, state))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, _MAGIC + _CHECK.pack(zlib.crc32(body)) + body)
        except OSError as error:
            self._complain("cannot be written", error)
        else:
            self._refused = False

    def _set_aside(self) -> None:
        try:
            self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
        except OSError as error:
            self._complain("cannot be set aside", error)

    def _complain(self, what: str, error: OSError) -> None:
        if not self._refused:
            _log.warning(
                "%s %s (%s): alarms go on, and a restart would learn the device anew",
                self.path.name,
                what,
                error,
            )
        self._refused = True


def _decode(raw: bytes, form: type[State]) -> tuple[str, State]:
    """Return digest and state. Raises `ValueError` for anything that `WatchFile.save` does not write."""
    start = len(_MAGIC) + _CHECK.size
    if len(raw) < start or raw[: len(_MAGIC)] != _MAGIC:
        raise ValueError("it is no state of a watch")
    if len(raw) > _MOST_BYTES:
        raise ValueError("it is too large")
    body = raw[start:]
    if _CHECK.unpack_from(raw, len(_MAGIC))[0] != zlib.crc32(body):
        raise ValueError("its checksum is wrong")
    # For a type that is given there is no static name.
    decoded: tuple[str, State] = msgspec.msgpack.decode(body, type=tuple[str, form])  # type: ignore[valid-type]
    return decoded
