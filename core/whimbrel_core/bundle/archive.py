"""The archive: a ZIP with STORED entries, read with limits and written with equal bytes.

Why STORED with fixed timestamps: ``unzip -l`` works, a delta sees plain bytes, and equal inputs
give equal files. The reader trusts nothing: it looks at the central directory, refuses whatever
this writer would not have written, and only then touches content.
"""

from __future__ import annotations

import zipfile
import zlib
from typing import IO, TYPE_CHECKING

import msgspec

from whimbrel_core.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# 1980-01-01 is the earliest time that the ZIP format can say.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR_0644 = 0o100644 << 16
_UNIX = 3
_UTF8_NAMES = 0x800  # the one flag that says nothing about how the content is stored
_FILE_TYPE, _REGULAR = 0o170000, 0o100000
_CHUNK = 1 << 20
# What zipfile raises on bytes that are not what they should be.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError,
    NotImplementedError,
)  # fmt: skip


class Limits(msgspec.Struct, frozen=True):
    """What a reader accepts before any byte is trusted."""

    entries: int = 64
    name_bytes: int = 200
    depth: int = 4
    entry_bytes: int = 2 << 30
    total_bytes: int = 4 << 30


DEFAULT_LIMITS = Limits()


class Archive:
    """An open archive whose directory has passed the limits. Content is read on demand."""

    def __init__(self, file: IO[bytes], limits: Limits = DEFAULT_LIMITS) -> None:
        """Read and check the directory of ``file``.

        Raises:
            BundleError: not an archive this format allows; the message names the entry.
        """
        try:
            self._zip = zipfile.ZipFile(file)
        except _DAMAGE as error:
            msg = f"not a bundle, or cut short: {error}"
            raise BundleError(msg, code="bundle.archive", hint="fetch or pack it again") from error
        infos = self._zip.infolist()
        _check_directory(infos, limits)
        self._infos = {info.filename: info for info in infos}

    @property
    def names(self) -> tuple[str, ...]:
        """Entry names in the order in which they are stored."""
        return tuple(self._infos)

    def size(self, name: str) -> int:
        """Return the length in bytes of an entry."""
        return self._info(name).file_size

    def read(self, name: str, *, limit: int | None = None) -> bytes:
        """Return an entry's bytes, at most ``limit`` of them.

        Raises:
            BundleError: there is no such entry, it is larger than ``limit``, or its bytes
                do not have the stored length and checksum.
        """
        info = self._info(name)
        if limit is not None and info.file_size > limit:
            msg = f"{name} is {info.file_size} bytes, {limit} are allowed"
            raise BundleError(msg, code="bundle.limit")
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield an entry's bytes in pieces of at most 1 MiB."""
        info = self._info(name)
        try:
            with self._zip.open(info) as stream:
                while piece := stream.read(_CHUNK):
                    yield piece
        except _DAMAGE as error:
            msg = f"{name} is damaged or cut short: {error}"
            raise BundleError(msg, code="bundle.archive", hint="fetch or pack it again") from error

    def close(self) -> None:
        """Close the archive (and not the file object it was given)."""
        self._zip.close()

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._infos[name]
        except KeyError:
            msg = f"the bundle has no {name}"
            raise BundleError(msg, code="bundle.missing", hint="pack the model again") from None


def write(file: IO[bytes], entries: Mapping[str, bytes]) -> None:
    """Write ``entries`` to ``file`` in sorted order, the same bytes for the same entries."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_STORED
            info.create_system = _UNIX
            info.external_attr = _REGULAR_0644
            target.writestr(info, entries[name])


def _check_directory(infos: list[zipfile.ZipInfo], limits: Limits) -> None:
    if not infos or len(infos) > limits.entries:
        msg = f"the bundle has {len(infos)} entries, 1 to {limits.entries} are allowed"
        raise BundleError(msg, code="bundle.limit")
    seen: set[str] = set()
    total = 0
    for info in infos:
        name = info.filename
        _check_name(name, limits)
        folded = name.casefold()
        if folded in seen:
            msg = f"the bundle names {name!r} twice"
            raise BundleError(msg, code="bundle.name")
        seen.add(folded)
        mode = info.external_attr >> 16
        # No type at all is what ZIP writers without Unix attributes leave; otherwise it
        # must be a regular file: no symbolic link, device or folder.
        if mode & _FILE_TYPE not in {0, _REGULAR}:
            msg = f"{name!r} is not a regular file"
            raise BundleError(msg, code="bundle.name")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ~_UTF8_NAMES:
            msg = f"{name!r} is compressed, encrypted or patched; entries are stored as they are"
            raise BundleError(msg, code="bundle.archive", hint="pack the model again")
        if info.compress_size != info.file_size:
            msg = f"{name!r} states two lengths, {info.compress_size} and {info.file_size}"
            raise BundleError(msg, code="bundle.archive")
        total += info.file_size
        if info.file_size > limits.entry_bytes or total > limits.total_bytes:
            msg = f"{name!r} takes the bundle over its size limit ({limits.total_bytes} bytes)"
            raise BundleError(msg, code="bundle.limit")
    _check_overlap(infos)


def _check_name(name: str, limits: Limits) -> None:
    parts = name.split("/")
    bad = (
        not name
        or len(name.encode("utf-8", "surrogatepass")) > limits.name_bytes
        or len(parts) > limits.depth
        or any(part in {"", ".", ".."} for part in parts)
        or "\\" in name
        or ":" in name
        or not name.isprintable()
        or not name.isascii()
    )
    if bad:
        msg = f"the bundle has a forbidden entry name {name[:80]!r}"
        raise BundleError(msg, code="bundle.name")


def _check_overlap(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse entries whose bytes overlap: two names over one content hide what was signed."""
    end = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < end:
            msg = f"{info.filename!r} overlaps another entry"
            raise BundleError(msg, code="bundle.archive")
        end = info.header_offset + 30 + len(info.filename) + info.file_size
