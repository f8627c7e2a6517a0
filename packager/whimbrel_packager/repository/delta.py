"""Deltas: a new bundle as a zstd frame with the old one as raw dictionary.

Low levels find nothing across two files; level 12 does, with a window that covers both, and level
19 finds an eighth more in a second or two for a few megabytes. Tensors that are in both models
under the same name are also tried as their difference from the old one: what is smallest is kept. A
device rebuilds the whole file and checks it against the signed digest.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from whimbrel_core.bundle import archive, difference
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle.difference import Span
from whimbrel_core.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = (12, 19)
MAX_SHARE = 0.75
"""A delta that saves less than a quarter is not worth its own target, nor a device's work."""
_QUICK_BYTES = 32 << 20  # level 19 takes a second for 2 MB, and a GB of memory for a window of 128
_MIN_WINDOW_LOG, _MAX_WINDOW_LOG = 10, 30  # of 32-bit devices; agents accept as much
_MIN_TENSOR_BYTES = 256
_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of a number, by ONNX's element type."""


class Delta(NamedTuple):
    """A delta, and how it was made: zstd's level, and how many tensors are differences."""

    data: bytes
    level: int
    spans: int


def encode(old: bytes, new: bytes) -> bytes | None:
    """Return ``new`` as a delta from ``old``, or None when that is not worth it."""
    best = best_of(old, new)
    return best.data if len(best.data) < MAX_SHARE * len(new) else None


def best_of(old: bytes, new: bytes) -> Delta:
    """Return the smallest delta that is found, whether worth it or not."""
    levels = LEVELS if len(old) + len(new) <= _QUICK_BYTES else LEVELS[:1]
    tried = []
    for spans in {(), spans_of(old, new)}:
        front, body = difference.header(spans), _with_gaps(old, new, spans)
        for level in levels:
            data = front + _compressed(old, body, level)
            tried.append(Delta(data, level, len(spans)))
    return min(tried, key=lambda one: (len(one.data), one.spans, one.level))


def decode(old: bytes, data: bytes, *, length: int) -> bytes:
    """Return the file that ``data`` makes of ``old``, of ``length`` bytes at most.

    Raises:
        InputError: the delta is malformed, or for another file.
    """
    source = io.BytesIO(data)
    spans = difference.read_header(source, old_length=len(old), length=length)
    decompressor = zstandard.ZstdDecompressor(
        dict_data=_dictionary(old), max_window_size=1 << _MAX_WINDOW_LOG
    )
    try:
        made = io.BytesIO(decompressor.decompress(source.read(), max_output_size=length))
    except zstandard.ZstdError as error:
        raise InputError(f"the delta cannot be applied: {error}", code="delta.format") from error
    difference.restore(io.BytesIO(old), made, spans)
    return made.getvalue()


def spans_of(old: bytes, new: bytes) -> tuple[Span, ...]:
    """Return the tensors that have the same name, type and size in both bundles' models."""
    before, spans = {name: rest for name, *rest in _tensors(old)}, []
    for name, at, length, kind in _tensors(new):
        source, known, same = before.get(name, (0, 0, 0))
        if (known, same) == (length, kind):
            spans.append(Span(at, source, length, _WIDTHS[kind]))
    return tuple(spans[: difference.MAX_SPANS])


def _tensors(bundle: bytes) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, offset in the bundle, length in bytes and type of a model's larger tensors."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        model = archive.Archive(io.BytesIO(bundle)).read(bundles.MODEL)
        graph = ModelProto.FromString(model).graph
    except (BundleError, DecodeError):
        return  # no bundle of ours: then bytes are just bytes
    cursor = bundle.find(model)
    for tensor in graph.initializer:
        raw = tensor.raw_data
        if len(raw) < _MIN_TENSOR_BYTES or len(raw) % _WIDTHS.get(tensor.data_type, len(raw) + 1):
            continue
        at = bundle.find(raw, cursor)  # tensors lie in the file in this order
        if at >= 0:
            cursor = at + len(raw)
            yield tensor.name, at, len(raw), tensor.data_type


def _with_gaps(old: bytes, new: bytes, spans: tuple[Span, ...]) -> bytes:
    if not spans:
        return new
    out = bytearray(new)
    for at, source, length, width in ((s.at, s.old, s.length, s.width) for s in spans):
        before, after = old[source : source + length], new[at : at + length]
        out[at : at + length] = difference.subtract(before, after, width)
    return bytes(out)


def _compressed(old: bytes, body: bytes, level: int) -> bytes:
    window = min(max((len(old) + len(body)).bit_length(), _MIN_WINDOW_LOG), _MAX_WINDOW_LOG)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(body),
        dict_size=len(old),
        window_log=window,
        write_content_size=True,
        write_checksum=True,
    )
    compressor = zstandard.ZstdCompressor(dict_data=_dictionary(old), compression_params=parameters)
    return compressor.compress(body)


def _dictionary(old: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
