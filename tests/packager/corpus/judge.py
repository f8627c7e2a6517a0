"""Judges one case: the whole way of a packing, and then rows that no part of it has seen."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from tests.packager.corpus import collection
from tests.packager.corpus.case import REFUSED, WITHIN, Case, Given, Seen
from tests.packager.proving import InProcess, whole
from whimbrel_core.errors import WhimbrelError
from whimbrel_packager.conversion import runtime_child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.packager.proving import Whole

    Array = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parents[3]
FRESH_ROWS = 400
_FLOAT32_EXACT = 1 << 24


@functools.cache
def seen(key: str, name: str) -> Seen:
    """Return what comes of a case; it is worked once in a process."""
    source = collection.sources()[0][key]
    case = source.cases[name]
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frameworks, on data made to be odd
        folder = Path(scratch)
        given = case.make(folder)
        try:
            with _children(case):
                done = whole(given.model, given.data, folder, case.limits, **given.options)
        except WhimbrelError as error:
            return Seen(
                REFUSED,
                code=error.code,
                message=error.message.replace(f"{folder}/", "").replace(f"{ROOT}/", ""),
                hint=error.hint or "",
            )
        checked = _check(source, case, given, done)
    return Seen(
        WITHIN,
        model=done.done.result.description.estimator,
        rewrites=done.rewrites,
        share=done.proof.share,
        rows=done.proof.rows,
        fresh_rows=checked.rows,
        disagreement=checked.says,
    )


def require(case: Case, seen: Seen) -> None:
    """Require that a case ended as it says: there is no third outcome."""
    assert not seen.disagreement
    if case.refused:
        assert seen.outcome == REFUSED
        assert seen.code == case.refused, seen.message
        assert case.says in seen.message
        assert seen.hint, "a refusal says what to do instead"
    else:
        assert seen.outcome == WITHIN, f"{seen.message}\n{seen.hint}"
        assert seen.rewrites == case.rewrites
        assert seen.fresh_rows


@contextlib.contextmanager
def _children(case: Case) -> Iterator[None]:
    """Run children in this process, where nothing is timed, unless the case is dangerous."""
    if case.isolated:
        yield
        return
    budget, runtime_child._BUDGET_S = runtime_child._BUDGET_S, 0.005
    try:
        with InProcess():
            yield
    finally:
        runtime_child._BUDGET_S = budget


class _Checked(NamedTuple):
    rows: int
    says: str


def _check(source: collection.Source, case: Case, given: Given, done: Whole) -> _Checked:
    """Ask the model itself and the packed ONNX about fresh rows, without any of the packager."""
    rng = np.random.default_rng(99)
    asked = given.model if given.asked is None else given.asked
    rows, says = 0, ""
    for missing in (False, True):
        for beyond in (0.25, 0.0):
            table = fresh(given.data, rng, missing=missing, beyond=beyond)
            try:
                expected = {k: np.asarray(v) for k, v in source.ask(asked, table).items()}
                break
            except (ValueError, TypeError):
                if not missing and not beyond:
                    raise
        else:
            continue  # the model does not accept missing values
        rows += len(next(iter(expected.values())))
        says = says or _compare(case, expected, _run(done, table), done)
    return _Checked(rows, says)


def fresh(
    data: Any,  # noqa: ANN401 - a table or an array
    rng: np.random.Generator,
    *,
    missing: bool,
    beyond: float,
) -> Any:  # noqa: ANN401 - like data
    """Return rows like ``data`` that are not in it, exact in float32 as on a device.

    Numbers come from its ranges, widened by a share of them on either side.
    """
    if isinstance(data, dict) and any(np.ndim(values) > 1 for values in data.values()):
        return {n: _fresh_block(np.asarray(v), rng, missing, beyond) for n, v in data.items()}
    if not isinstance(data, pd.DataFrame | dict) and np.ndim(data) > 2:
        return _fresh_block(np.asarray(data), rng, missing, beyond)
    if isinstance(data, dict):
        data = pd.DataFrame(data)
    if not isinstance(data, pd.DataFrame):
        table = pd.DataFrame(np.asarray(data))
        made = fresh(table, rng, missing=missing, beyond=beyond)
        return np.ascontiguousarray(made.to_numpy(dtype=np.asarray(data).dtype))
    columns = {name: _fresh(data[name], rng, missing, beyond) for name in data.columns}
    return pd.DataFrame(columns)


def _fresh(column: Any, rng: np.random.Generator, missing: bool, beyond: float) -> Any:  # noqa: ANN401 - pandas ships no types
    gaps = rng.random(FRESH_ROWS) < (0.2 if missing else 0)
    if isinstance(column.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(column):
        known = sorted(set(column.dropna()), key=str)
        words = pd.Series(rng.choice(np.array(known, dtype=object), FRESH_ROWS), dtype=object)
        words[gaps] = np.nan
        return words.astype(column.dtype) if column.dtype != object else words
    if pd.api.types.is_bool_dtype(column):
        return pd.Series(rng.random(FRESH_ROWS) < 0.5).astype(column.dtype)
    values = column.dropna().to_numpy(dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    wide = (high - low) * beyond
    if pd.api.types.is_integer_dtype(column):
        # Not beyond what float32 knows exactly, unless the data itself is.
        least, most = min(low, -_FLOAT32_EXACT), max(high, _FLOAT32_EXACT)
        low, high = max(low - wide, least), min(high + wide, most)
        made = pd.Series(rng.integers(int(low), int(high) + 1, FRESH_ROWS)).astype(column.dtype)
        if missing and pd.api.types.is_extension_array_dtype(column.dtype):
            made[gaps] = pd.NA
        return made
    numbers = rng.uniform(low - wide, high + wide, FRESH_ROWS).astype(np.float32)
    numbers[gaps] = np.nan
    return pd.Series(numbers.astype(column.dtype))


def _fresh_block(values: Array, rng: np.random.Generator, missing: bool, beyond: float) -> Array:
    """Return rows like images or sequences; whole numbers are ids, and stay among those known."""
    low, high = values.min(), values.max()
    shape = (FRESH_ROWS, *values.shape[1:])
    if values.dtype.kind in "iu":
        return rng.integers(int(low), int(high) + 1, shape).astype(values.dtype)
    wide = (high - low) * beyond
    numbers = rng.uniform(low - wide, high + wide, shape).astype(np.float32)
    if missing:
        numbers[rng.random(shape) < 0.01] = np.nan
    return numbers.astype(values.dtype)


def _run(done: Whole, table: Any) -> dict[str, Array]:  # noqa: ANN401
    """Return the packed model's outputs by role, run as a device runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        done.done.model, options, providers=["CPUExecutionProvider"]
    )
    inputs = session.get_inputs()
    if isinstance(table, dict):
        fed = {i.name: table[i.name].astype(_TYPES[i.type]) for i in inputs}
        return _answers(done, session, fed)
    if not isinstance(table, pd.DataFrame) and len(inputs) > 1:
        table = pd.DataFrame(table, columns=[f"x{i}" for i in range(table.shape[1])])
    if isinstance(table, pd.DataFrame) and {i.name for i in inputs} <= set(table.columns):
        fed = {i.name: _tensor(table[i.name], i) for i in inputs}
    else:
        matrix = table.to_numpy() if isinstance(table, pd.DataFrame) else table
        fed = {inputs[0].name: matrix.astype(_TYPES[inputs[0].type])}
    return _answers(done, session, fed)


def _answers(done: Whole, session: Any, fed: dict[str, Array]) -> dict[str, Array]:  # noqa: ANN401
    roles = done.done.result.description.roles
    names = [output.name for output in session.get_outputs()]
    return {roles[n]: a for n, a in zip(names, session.run(names, fed), strict=True) if n in roles}


_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def _tensor(column: Any, declared: Any) -> Array:  # noqa: ANN401
    flat = len(declared.shape) == 1
    if declared.type == "tensor(string)":
        words = column.astype(object).where(column.notna(), "")
        array = np.array([*map(str, words), None], dtype=object)[:-1]
    else:
        array = column.to_numpy(dtype=np.float64, na_value=np.nan).astype(_TYPES[declared.type])
    return array if flat else array.reshape(-1, 1)


def _compare(case: Case, expected: dict[str, Array], got: dict[str, Array], done: Whole) -> str:
    rtol, atol = (case.loose * limit for limit in done.limit)
    tied = np.zeros(len(next(iter(expected.values()))), dtype=bool)
    if "probabilities" in expected:
        best = np.sort(_matrix(expected["probabilities"]), axis=1)
        tied = best[:, -1] - best[:, -2] <= 4 * (atol + rtol)
    elif "label" in expected and "value" in expected:
        scores = expected["value"].reshape(len(tied), -1).astype(np.float64)
        best = np.sort(np.c_[scores, -scores] if scores.shape[1] == 1 else scores, axis=1)
        tied = best[:, -1] - best[:, -2] <= 4 * (atol + rtol * np.abs(best[:, -1]))
    for role, wanted in expected.items():
        if role not in got:
            return f"the converted model has no {role}"
        actual = got[role]
        if role == "label":
            odd = _words(wanted) != _words(actual)
            wrong = odd.reshape(len(odd), -1).any(axis=1) & ~tied
        else:
            want, have = _matrix(wanted), _matrix(actual)
            if want.shape != have.shape:
                want, have = want[:, -1:], have[:, -1:]
            near = np.isclose(have, want, rtol=rtol, atol=atol, equal_nan=True)
            wrong = ~near.all(axis=1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            return (
                f"{role} of {int(wrong.sum())} of {len(wrong)} fresh rows is wrong, "
                f"row {row}: {actual[row]}, expected {wanted[row]}"
            )
    return ""


def _matrix(values: Array) -> Array:
    wide = values.reshape(len(values), -1).astype(np.float64)
    return np.concatenate([1 - wide, wide], axis=1) if wide.shape[1] == 1 else wide


def _words(values: Array) -> Array:
    flat = values.reshape(len(values), -1)
    kind = np.int64 if flat.dtype.kind in "fiub" else np.str_
    return flat.astype(kind).astype(np.str_)
