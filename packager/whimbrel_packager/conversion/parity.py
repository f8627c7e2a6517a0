"""Parity: the converted model answers as its source did, or is refused by name.

Numbers agree within ``atol + rtol·|expected|``. Labels agree exactly, except where the source's
two best classes are themselves within tolerance of each other: a tie, which is counted apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_core.bundle import parity as vectors
from whimbrel_core.errors import ParityError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_packager.conversion.conversion import Conversion
    from whimbrel_packager.conversion.corpus import Corpus

    Array = np.ndarray[Any, Any]

VECTOR_ROWS = 200
_MAX_VECTOR_BYTES = 8 << 20  # of images there are fewer
_FEWEST_VECTORS = 16
_MOSTLY = 0.9
_HINTS = {
    "nan": "impute missing values in the pipeline before this estimator (SimpleImputer), or use "
    "histogram gradient boosting; forests trained with NaN do not convert (sklearn-onnx #1253)",
    "infinity": "clip infinite values before they reach the model, and train on clipped data",
    "threshold": "round the training data to float32 before fitting, as a device sees it",
    "computed": "leave out scaling before trees, which do not need it: scaled numbers differ in the "
    "last digit of float32 and then fall on the other side of a threshold",
    "unseen": "give the encoder handle_unknown='ignore' or 'use_encoded_value'",
    "empty": "replace missing words by one of your own before fitting; on a device a missing "
    "word is the empty one",
    "missing": "replace missing words by one of your own before fitting (SimpleImputer with "
    "fill_value); on a device a missing word is the empty one",
    "magnitude": "clip or scale the column in the pipeline, so that float32 is enough for it",
}
_DEFAULT_HINT = (
    "pack a model that is simpler to convert, or allow the difference with --rtol and --atol if "
    "you can live with it"
)


class Tolerance(NamedTuple):
    """Relative and absolute tolerance; ``atol`` in units of the output."""

    rtol: float
    atol: float


class Proof(NamedTuple):
    """What was proven.

    Attributes:
        rows: corpus rows compared.
        cases: rows by case.
        refused: rows by case that the source itself does not accept, left out.
        ties: rows whose label differs because the source ties.
        max_abs_error: over all numbers of all rows.
        share: the largest error as a share of what is allowed there, 0 to 1.
        tied: (rows,) bool, the rows to keep out of the vectors.
    """

    rows: int
    cases: dict[str, int]
    refused: dict[str, int]
    ties: int
    max_abs_error: float
    share: float
    tied: Array


def tolerance(rtol: float, atol: float | None, conversion: Conversion) -> Tolerance:
    """Return the tolerance; the default ``atol`` is 1e-5, times the output's spread for values."""
    if atol is not None:
        return Tolerance(rtol, atol)
    description = conversion.result.description
    spread = 1.0
    if description.task == "regression":
        real = conversion.corpus.case == "real"
        values = [
            conversion.expected[n][real]
            for n, role in description.roles.items()
            if role == "value" and n in conversion.expected
        ]
        finite = np.concatenate([v[np.isfinite(v)].ravel() for v in values] or [np.zeros(1)])
        spread = float(finite.std()) if len(finite) else 1.0
    # Two digits are what a person reads; a tolerance is no measurement.
    return Tolerance(rtol, float(f"{1e-5 * max(spread, 1e-30):.1e}"))


def prove(conversion: Conversion, got: Mapping[str, Array], limit: Tolerance, what: str) -> Proof:
    """Compare the runtime's outputs with the source's on the whole corpus.

    Raises:
        ParityError: they differ beyond the tolerance; names the worst case and what to do.
    """
    description, corpus = conversion.result.description, conversion.corpus
    wrong = np.zeros(corpus.frame.rows, dtype=bool)
    worst = np.zeros(corpus.frame.rows)
    largest = share = 0.0
    shown: dict[int, str] = {}
    tie = _ties(conversion, limit)
    tied = np.zeros_like(wrong)
    for name, answered in conversion.expected.items():
        actual, expected = got[name], answered
        if len(actual) != len(expected) or actual.size != expected.size:
            raise ParityError(
                f"{what}: output {name!r} has the shape {actual.shape}, the source model gives "
                f"{expected.shape}",
                hint=_DEFAULT_HINT,
            )
        actual = actual.reshape(expected.shape)
        expected = _held_by(actual.dtype, expected)
        if description.roles.get(name) == "label":
            bad = _labels(expected, actual)
            tied |= bad & tie
            bad &= ~tie
            size = np.where(bad, np.inf, 0.0)  # a wrong label outweighs any number
        else:
            error = vectors.errors(expected, actual)
            finite = np.where(np.isfinite(expected), np.abs(expected.astype(np.float64)), 0.0)
            allowed = limit.atol + limit.rtol * finite
            over = error > allowed
            share = max(share, _share(error, allowed))
            finite_errors = error[np.isfinite(error)]
            largest = max(largest, float(finite_errors.max(initial=0.0)))
            flat = error.reshape(len(error), -1)
            bad = np.asarray(over.reshape(len(error), -1).any(axis=1))
            size = np.where(bad, flat.max(axis=1, initial=0.0), 0.0)
        for row in np.flatnonzero(bad & (size > worst)):
            shown[int(row)] = f"{name} is {_show(actual[row])}, expected {_show(expected[row])}"
        worst = np.maximum(worst, size)
        wrong |= bad
    if wrong.any():
        raise _difference(conversion, wrong, worst, shown=shown, what=what, limit=limit)
    return Proof(
        rows=corpus.frame.rows,
        cases={
            str(k): int(n) for k, n in zip(*np.unique(corpus.case, return_counts=True), strict=True)
        },
        refused=conversion.result.refused,
        ties=int(tied.sum()),
        max_abs_error=float(f"{largest:.3g}"),
        share=float(f"{share:.2g}"),
        tied=tied | tie,
    )


def same_in_any_batch(
    whole: Mapping[str, Array], part: Mapping[str, Array], limit: Tolerance, what: str, rows: int
) -> None:
    """Require that the first ``rows`` rows give the same answers in a batch of their own.

    Raises:
        ParityError: they do not; the model mixes the rows of a batch.
    """
    for name, expected in whole.items():
        _error, found = vectors.compare(
            name, expected[:rows], part.get(name), limit.rtol, limit.atol
        )
        if found:
            raise ParityError(
                f"{what}: a batch of {rows} answers otherwise than the same rows in a larger "
                f"batch: {found[0]}",
                hint="export the model in inference mode, with a dynamic batch dimension",
            )


def choose(
    conversion: Conversion,
    proof: Proof,
    inputs: Mapping[str, Array],
    got: Mapping[str, Array],
    limit: Tolerance,
) -> vectors.ParityVectors:
    """Return the parity vectors: some rows of every case, with what the source answers.

    Outputs that the source does not have are expected as this machine's runtime gives them. Rows
    in which the source ties are left out: another processor may rightly fall the other way.
    """
    corpus = conversion.corpus
    usable = np.flatnonzero(~proof.tied)
    cases = sorted({str(case) for case in corpus.case[usable]} - {"real"})
    wide = corpus.frame.row_bytes + sum(v[:1].nbytes for v in got.values())
    most = min(VECTOR_ROWS, max(_FEWEST_VECTORS, _MAX_VECTOR_BYTES // wide))
    share = max(1, most // 2 // max(len(cases), 1))
    chosen: set[int] = set()
    for case in cases:
        rows = usable[corpus.case[usable] == case]
        chosen.update(rows[np.linspace(0, len(rows) - 1, min(share, len(rows))).astype(int)])
    real = usable[corpus.case[usable] == "real"]
    rest = min(max(most - len(chosen), 1), len(real))
    chosen.update(real[np.linspace(0, len(real) - 1, rest).astype(int)])
    order = np.array(sorted(chosen), dtype=np.int64)
    outputs = {}
    for name, values in got.items():
        expected = conversion.expected.get(name)
        if expected is None:
            outputs[name] = values[order]
        elif values.dtype.kind in "fiub":
            with np.errstate(over="ignore"):
                outputs[name] = expected[order].astype(values.dtype).reshape(values[order].shape)
        else:
            outputs[name] = expected[order].astype(np.str_).reshape(values[order].shape)
    return vectors.ParityVectors(
        {name: array[order] for name, array in inputs.items()}, outputs, limit.rtol, limit.atol
    )


def _held_by(kind: np.dtype[Any], expected: Array) -> Array:
    """Return numbers beyond the range of an output's type as the infinity that they are there."""
    if kind.kind != "f" or expected.dtype.kind != "f":
        return expected
    largest = float(np.finfo(kind).max)
    if float(np.finfo(expected.dtype).max) <= largest:
        return expected
    return np.where(np.abs(expected) > largest, np.copysign(np.inf, expected), expected)


def _share(error: Array, allowed: Array) -> float:
    """Return the largest error over what is allowed, of finite ones that are allowed."""
    compared = (error > 0) & (error <= allowed)
    return float((error[compared] / allowed[compared]).max(initial=0.0))


def _ties(conversion: Conversion, limit: Tolerance) -> Array:
    """Return (rows,) bool: the source's two best classes are within tolerance of each other."""
    description = conversion.result.description
    for name, values in conversion.expected.items():
        role = description.roles.get(name)
        if description.task != "classification" or role not in {"probabilities", "value"}:
            continue
        flat = values.reshape(len(values), -1).astype(np.float64)
        if flat.shape[1] == 1:
            # A probability of the one class, or a score that falls on this or that side of 0.
            flat = np.concatenate([(1 if role == "probabilities" else 0) - flat, flat], axis=1)
        best = np.sort(flat, axis=1)
        limits = 2 * (limit.atol + limit.rtol * np.abs(best[:, -1]))
        # Of probabilities that are NaN none is best.
        near: Array = np.asarray(best[:, -1] - best[:, -2] <= limits) | np.isnan(best[:, -1])
        return near
    return np.zeros(conversion.corpus.frame.rows, dtype=bool)


def _labels(expected: Array, actual: Array) -> Array:
    if actual.dtype.kind in "fiub" and expected.dtype.kind in "fiub":
        differ: Array = expected.astype(np.float64) != actual.astype(np.float64)
    else:
        differ = expected.astype(np.str_) != actual.astype(np.str_)
    return np.asarray(differ.reshape(len(differ), -1).any(axis=1))


def _difference(
    conversion: Conversion,
    wrong: Array,
    worst: Array,
    *,
    shown: dict[int, str],
    what: str,
    limit: Tolerance,
) -> ParityError:
    corpus = conversion.corpus
    rows = np.flatnonzero(wrong)
    names, counts = np.unique(corpus.case[rows], return_counts=True)
    by_case = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
    # The case that fails most often explains most; of it, the row that is furthest off.
    case = max(by_case, key=lambda name: by_case[name])
    alike = rows[corpus.case[rows] == case]
    row = int(alike[np.argmax(worst[alike])])
    column = str(corpus.column[row])
    values = {name: c[row] for name, c in corpus.frame.columns.items()}
    nulls = [n for n, v in values.items() if isinstance(v, float | np.floating) and np.isnan(v)]
    with_missing = f" with {', '.join(nulls[:5])} missing" if nulls else ""
    if column:
        place = f"column {column!r} = {_show(values[column])}"
        place += with_missing if nulls != [column] else ""
    elif case == "nan":
        place = "all numbers missing"
    else:
        place = f"a reference row{with_missing}"
    cause = case
    if conversion.result.ensembles and not conversion.result.tree_only:
        cause = "computed"
    elif _mostly_missing(corpus, rows):
        cause = "nan"
    return ParityError(
        f"{what} does not answer as its source in {len(rows)} of {corpus.frame.rows} rows "
        f"({', '.join(f'{c} {n}' for c, n in by_case.items())}); worst case {case!r}, {place}: "
        f"{shown.get(row, 'it differs')} (rtol {limit.rtol:g}, atol {limit.atol:g}). "
        "Nothing was packed",
        hint=conversion.result.description.remedy or _HINTS.get(cause, _DEFAULT_HINT),
    )


def _mostly_missing(corpus: Corpus, rows: Array) -> bool:
    floats = [c for c in corpus.frame.columns.values() if c.dtype.kind == "f"]
    if not floats:
        return False
    gaps = [np.isnan(c[rows]).reshape(len(rows), -1).any(axis=1) for c in floats]
    missing = np.any(gaps, axis=0)
    return bool(missing.mean() > _MOSTLY)


def _show(value: object) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return "[" + ", ".join(f"{float(v):.7g}" for v in value.ravel()[:6]) + "]"
    if isinstance(value, float | np.floating):
        return f"{float(value):.9g}"
    return repr(value.item() if isinstance(value, np.generic | np.ndarray) else value)
