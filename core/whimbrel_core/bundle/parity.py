"""Parity vectors: inputs with the answers that a model must give to them, as ``parity.npz``.

The packager makes them from the source model, a device runs them on itself before it serves.
The file is an npz that any numpy opens, with a fixed set of plain members: no pickle, strings as
fixed-width unicode, little-endian, C order, stored, fixed timestamps (equal input, equal bytes)::

    input_names.npy   <U  (inputs,)        output_names.npy   <U  (outputs,)
    input_<i>.npy     (rows, …)            output_<i>.npy     (rows, …)
    tolerance.npy     <f8 (2,): rtol, atol

An input of strings comes back as an object array of `str`, which is what onnxruntime takes.
"""

from __future__ import annotations

import io
import math
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from whimbrel_core.bundle import archive, datatypes
from whimbrel_core.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Arrays = Mapping[str, np.ndarray[Any, Any]]

MAX_BYTES = 32 << 20
MAX_TENSORS = 1024
MAX_ROWS = 4096
MAX_WORD_CHARS = 4096
_MAX_DIMENSIONS = 8
_MAX_HEADER = 1024
_MAX_FAILURES = 5
# The header of an npy file is a Python literal, and numpy's parser of it (a tokenizer) fails in
# more ways than it states. What numpy writes has one form, and no other is read.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{'descr': '(?P<dtype>[<|][a-zA-Z]\d{1,6})', "
    rb"'fortran_order': False, 'shape': \((?P<shape>[\d, ]*)\), \} *\n",
    re.DOTALL,
)
_PREAMBLE = 10  # magic, version and the header's length
_PLAIN = tuple(dtype.str for dtype in datatypes.DTYPES.values() if dtype.kind != "O")
_LIMITS = archive.Limits(
    entries=MAX_TENSORS * 2 + 3, depth=1, entry_bytes=MAX_BYTES, total_bytes=MAX_BYTES
)


class ParityVectors(NamedTuple):
    """Inputs and expected outputs by tensor name, each with the same number of rows first.

    A number agrees when ``|got - expected| ≤ atol + rtol·|expected|``; NaN agrees with NaN, and
    labels and strings only with themselves.
    """

    inputs: dict[str, np.ndarray[Any, Any]]
    outputs: dict[str, np.ndarray[Any, Any]]
    rtol: float
    atol: float

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.inputs.values())))


class ParityResult(msgspec.Struct, frozen=True):
    """Outcome of a check: no ``failures`` means that every output agrees."""

    rows: int
    max_abs_error: float
    failures: tuple[str, ...] = ()


def encode(vectors: ParityVectors) -> bytes:
    """Return ``vectors`` as the bytes of ``parity.npz``: equal vectors, equal bytes.

    Raises:
        BundleError: no inputs or outputs, unequal rows, a type or size that `decode` refuses.
    """
    members = {
        "input_names": np.array(list(vectors.inputs), dtype=np.str_),
        "output_names": np.array(list(vectors.outputs), dtype=np.str_),
        "tolerance": np.array([vectors.rtol, vectors.atol], dtype="<f8"),
    }
    for kind, tensors in (("input", vectors.inputs), ("output", vectors.outputs)):
        for i, (name, array) in enumerate(tensors.items()):
            members[f"{kind}_{i}"] = _storable(name, array)
    files = {}
    for name, array in members.items():
        target = io.BytesIO()
        np.lib.format.write_array(target, array, version=(1, 0), allow_pickle=False)
        files[f"{name}.npy"] = target.getvalue()
    out = io.BytesIO()
    archive.write(out, files)
    decode(out.getvalue())  # whatever a device would refuse is refused here
    return out.getvalue()


def decode(data: bytes) -> ParityVectors:
    """Return the vectors in ``data``.

    Raises:
        BundleError: malformed, beyond the limits, or inconsistent. Nothing is unpickled, and
            no more is allocated than the bytes that are there.
    """
    if len(data) > MAX_BYTES:
        raise BundleError(
            f"parity.npz is {len(data)} bytes, {MAX_BYTES} are allowed", code="bundle.limit"
        )
    source = archive.Archive(io.BytesIO(data), _LIMITS)
    input_names = _names(source, "input_names")
    output_names = _names(source, "output_names")
    tolerance = _member(source, "tolerance")
    if tolerance.shape != (2,) or tolerance.dtype != np.dtype("<f8"):
        raise BundleError("parity.npz: tolerance must be two float64 numbers")
    rtol, atol = (float(value) for value in tolerance)
    if not (math.isfinite(rtol) and math.isfinite(atol) and rtol >= 0 and atol >= 0):
        raise BundleError(f"parity.npz: tolerances {rtol}, {atol} are not finite and positive")
    inputs = {name: _member(source, f"input_{i}") for i, name in enumerate(input_names)}
    outputs = {name: _member(source, f"output_{i}") for i, name in enumerate(output_names)}
    rows = {len(array) if array.ndim else -1 for array in (*inputs.values(), *outputs.values())}
    if len(rows) != 1 or not 0 < next(iter(rows)) <= MAX_ROWS:
        raise BundleError(
            f"parity.npz: every tensor must have the same rows, 1 to {MAX_ROWS}; got {sorted(rows)}"
        )
    return ParityVectors(inputs, outputs, rtol, atol)


def check(vectors: ParityVectors, run: Callable[[Any], Arrays]) -> ParityResult:
    """Run the vectors through a model and compare: all rows in one batch, then the first alone.

    Args:
        vectors: as decoded from a verified bundle.
        run: input arrays by name → output arrays by name. What it raises passes through.
    """
    first = ParityVectors(
        {name: array[:1] for name, array in vectors.inputs.items()},
        {name: array[:1] for name, array in vectors.outputs.items()},
        vectors.rtol,
        vectors.atol,
    )
    worst = 0.0
    failures: list[str] = []
    for case in (vectors, first):
        got = run(case.inputs)
        for name, expected in case.outputs.items():
            error, found = compare(name, expected, got.get(name), vectors.rtol, vectors.atol)
            worst = max(worst, error)
            failures.extend(found)
    return ParityResult(vectors.rows, worst, tuple(failures[:_MAX_FAILURES]))


def compare(
    name: str,
    expected: np.ndarray[Any, Any],
    got: np.ndarray[Any, Any] | None,
    rtol: float,
    atol: float,
) -> tuple[float, tuple[str, ...]]:
    """Return the largest absolute error of one output and a sentence per way in which it differs.

    An infinite expected number must be met exactly and counts as no error when it is.
    """
    if got is None:
        return 0.0, (f"output {name!r} is missing",)
    actual = np.asarray(got)
    if actual.shape != expected.shape:
        # Converters disagree on (n,) and (n, 1); the numbers are the same.
        if actual.size != expected.size or not len(expected) or len(actual) != len(expected):
            return 0.0, (f"output {name!r} has shape {actual.shape}, expected {expected.shape}",)
        actual = actual.reshape(expected.shape)
    if expected.dtype.kind == "f" and actual.dtype.kind in "fiub":
        error = errors(expected, actual)
        bad = error > atol + rtol * np.abs(np.where(np.isfinite(expected), expected, 0.0))
        worst = float(np.max(error, initial=0.0))
    else:
        textual = expected.dtype.kind in "OUS" or actual.dtype.kind in "OUS"
        bad = _words(expected) != _words(actual) if textual else expected != actual
        error, worst = bad.astype(np.float64), 0.0
    if not bad.any():
        return worst, ()
    flat = int(np.argmax(np.where(bad, error, -1.0)))
    at = tuple(int(i) for i in np.unravel_index(flat, bad.shape))
    place = f"row {at[0]}" + (f", column {at[1]}" if len(at) > 1 else "")
    sentence = (
        f"output {name!r} differs in {int(bad.sum())} of {bad.size} values; worst at {place}: "
        f"expected {expected[at]!s}, got {actual[at]!s}"
    )
    return worst, (sentence,)


def errors(
    expected: np.ndarray[Any, Any], got: np.ndarray[Any, Any]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return |got - expected| as float64; 0 where both are NaN or the same infinity, else inf."""
    a, b = expected.astype(np.float64), got.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    both = np.isfinite(a) & np.isfinite(b)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a - b)
    result: np.ndarray[Any, np.dtype[np.float64]] = np.where(
        same, 0.0, np.where(both, difference, np.inf)
    )
    return result


def _words(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind == "U":
        return array
    words = np.array([_word(value) for value in array.ravel()], dtype=np.str_)
    shaped: np.ndarray[Any, Any] = words.reshape(array.shape)
    return shaped


def _word(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _storable(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind in "OUS":
        words = _words(array)
        if any(word.endswith("\0") for word in words.ravel()):
            raise BundleError(
                f"tensor {name!r}: a word ends in a NUL character, which cannot be stored",
                hint="clean the column before training",
            )
        # An array of empty words would have width 0, which not every numpy reads back.
        return np.ascontiguousarray(words.astype(f"<U{max(1, words.dtype.itemsize // 4)}"))
    dtype = np.dtype("<f4") if array.dtype == np.float16 else array.dtype.newbyteorder("<")
    if dtype.str not in _PLAIN:
        raise BundleError(f"tensor {name!r} of type {array.dtype} cannot be a parity vector")
    return np.ascontiguousarray(array, dtype=dtype)


def _names(source: archive.Archive, which: str) -> list[str]:
    array = _member(source, which)
    names = [str(value) for value in array.ravel()]
    if array.ndim != 1 or not 1 <= len(names) <= MAX_TENSORS or len(set(names)) != len(names):
        raise BundleError(f"parity.npz: {which} must be 1 to {MAX_TENSORS} distinct names")
    return names


def _member(source: archive.Archive, name: str) -> np.ndarray[Any, Any]:
    data = source.read(f"{name}.npy", limit=MAX_BYTES)
    found = _HEADER.match(data, 0, _MAX_HEADER)
    if found is None or int.from_bytes(found["length"], "little") != found.end() - _PREAMBLE:
        raise BundleError(f"parity.npz: {name} is malformed: its header is not that of an array")
    try:
        dtype = np.dtype(found["dtype"].decode())
        shape = tuple(int(size) for size in found["shape"].split(b",") if size.strip())
    except (TypeError, ValueError) as error:
        raise BundleError(f"parity.npz: {name} is malformed: {error}") from error
    text = dtype.kind == "U" and dtype.byteorder != ">" and 0 < dtype.itemsize <= 4 * MAX_WORD_CHARS
    if not (text or dtype.str in _PLAIN) or len(shape) > _MAX_DIMENSIONS:
        raise BundleError(f"parity.npz: {name} has a forbidden type ({dtype.str}) or rank")
    rest = data[found.end() :]
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise BundleError(f"parity.npz: {name} states {shape} {dtype.str} over {len(rest)} bytes")
    if text and not _is_unicode(np.frombuffer(rest, dtype="<u4")):
        raise BundleError(f"parity.npz: {name} is malformed: it holds no unicode")
    array = np.frombuffer(rest, dtype=dtype).reshape(shape)
    words = text and name != "input_names" and name.startswith("input_")
    return array.astype(object) if words else array


def _is_unicode(points: np.ndarray[Any, Any]) -> bool:
    """Whether these are code points of characters: numpy and onnxruntime take others amiss."""
    surrogate = (points >= 0xD800) & (points <= 0xDFFF)  # noqa: PLR2004 - the Unicode standard
    return not (surrogate | (points > sys.maxunicode)).any()
