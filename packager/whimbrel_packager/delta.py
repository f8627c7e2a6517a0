"""Deltas: a new bundle as a zstd frame with the old one as raw dictionary.

Low levels find nothing across two files; level 12 does, with a window that covers both.
A device rebuilds the whole file and checks it against the signed digest.
"""

from __future__ import annotations

import zstandard

LEVEL = 12
MAX_SHARE = 0.6
"""A delta that is larger than this share of the full file is not worth its own target."""
_MIN_WINDOW_LOG, _MAX_WINDOW_LOG = 10, 27  # decoders accept 128 MiB without being asked


def encode(old: bytes, new: bytes) -> bytes | None:
    """Return ``new`` as a delta from ``old``, or None when that is not worth it."""
    window = min(max((len(old) + len(new)).bit_length(), _MIN_WINDOW_LOG), _MAX_WINDOW_LOG)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL,
        source_size=len(new),
        dict_size=len(old),
        window_log=window,
        write_content_size=True,
        write_checksum=True,
    )
    dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    compressor = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)
    data = compressor.compress(new)
    return data if len(data) < MAX_SHARE * len(new) else None


def decode(old: bytes, data: bytes, *, length: int) -> bytes:
    """Return the file that ``data`` makes of ``old``, of ``length`` bytes at most."""
    dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    decompressor = zstandard.ZstdDecompressor(
        dict_data=dictionary, max_window_size=1 << _MAX_WINDOW_LOG
    )
    return decompressor.decompress(data, max_output_size=length)
