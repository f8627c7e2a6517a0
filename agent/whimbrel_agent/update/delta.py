"""Deltas: zstandard with the old bundle as raw dictionary, and differences of tensors.

Memory: the old file, a window as large as the new one, and a block of each. The result is never
believed here: the caller checks the rebuilt file against the signed digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.bundle import difference
from whimbrel_core.errors import InputError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

# Decoding holds the old file and a window as large as the new one.
_MAX_WINDOW = 1 << 30


def rebuild(old: Path, delta: Path, target: Path, *, length: int) -> None:
    """Write to ``target`` what ``delta`` makes of ``old``, at most ``length`` bytes.

    Raises:
        InputError: the delta is damaged, is for another file, or makes more than ``length``.
        StorageError: the disk refuses.
    """
    import zstandard

    try:
        dictionary = zstandard.ZstdCompressionDict(
            old.read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
        )
        decoder = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_MAX_WINDOW)
        written = 0
        with delta.open("rb") as source, target.open("w+b") as sink, old.open("rb") as before:
            spans = difference.read_header(source, old_length=old.stat().st_size, length=length)
            for piece in decoder.read_to_iter(source):
                written += len(piece)
                if written > length:
                    msg = f"the delta makes more than the {length} bytes that were signed"
                    raise InputError(msg, code="delta.length")
                sink.write(piece)
            difference.restore(before, sink, spans)
    except zstandard.ZstdError as error:
        msg = f"the delta cannot be applied: {error}"
        raise InputError(msg, code="delta.format") from error
    except OSError as error:
        msg = f"{target} cannot be written: {error}"
        raise StorageError(msg) from error
