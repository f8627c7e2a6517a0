"""Conversion, from the outside: what the child process is asked, and what it leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from whimbrel_packager.conversion import child
from whimbrel_packager.conversion.corpus import Corpus
from whimbrel_packager.frame import Frame
from whimbrel_packager.sources import Description, Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    Array = np.ndarray[Any, Any]

MODULE = "whimbrel_packager.conversion.convert_child"
SAMPLE, MODEL, RESULT = "sample.npz", "model.onnx", "result.json"
CORPUS, CASES, EXPECTED, RANGES = "corpus.npz", "cases.npz", "expected.npz", "ranges.npz"
SAMPLE_ROWS = 2_000


class Request(msgspec.Struct, frozen=True):
    """What the child is asked to convert, and which of the source's attempts is the first."""

    model: str
    options: Options
    attempt: int = 0


class Result(msgspec.Struct, frozen=True):
    """What the child says beside its files.

    Args:
        refused: corpus rows that the source itself does not accept, by case: left out.
        ensembles: tree ensembles found in the converted model.
        tree_only: whether numbers meet nothing but thresholds on their way.
        thresholds: split thresholds that the corpus stands on.
        attempts: rewrites by attempt; the first, of none, is the plain conversion.
        attempt: the one that converted.
        parameters: the model's own hyperparameters.
        libraries: modules that its parts come from.
    """

    description: Description
    opsets: dict[str, int]
    operators: dict[str, int]
    ir_version: int
    inputs: list[tuple[str, str, tuple[int, ...]]]
    outputs: list[tuple[str, str, tuple[int, ...]]]
    refused: dict[str, int] = {}
    ensembles: int = 0
    tree_only: bool = False
    thresholds: int = 0
    attempts: tuple[tuple[str, ...], ...] = ((),)
    attempt: int = 0
    parameters: dict[str, str | int | float | bool | None] = {}
    libraries: tuple[str, ...] = ()


class Conversion(NamedTuple):
    """A converted model with the corpus and the source's own answers to it."""

    model: bytes
    result: Result
    corpus: Corpus
    expected: dict[str, Array]


def start(request: Request, frame: Frame, folder: Path, limits: child.Limits) -> child.Child:
    """Start the conversion of a model file; ``frame`` is the reference data without labels."""
    rows = np.unique(np.linspace(0, frame.rows - 1, min(frame.rows, SAMPLE_ROWS)).astype(np.int64))
    frame.take(rows).save(folder / SAMPLE)
    _ranges(frame).save(folder / RANGES)
    return child.start(MODULE, folder, request, limits)


def collect(
    running: child.Child, folder: Path, what: str, report: Callable[[str], None] | None
) -> Conversion:
    """Wait for a conversion and read what it left.

    Raises:
        ConversionError: refused, too slow, too large, or crashed; the message says which.
        UsageError, InputError: the model file cannot be loaded, or does not fit the data.
    """
    running.wait(what, report)
    result = msgspec.json.decode((folder / RESULT).read_bytes(), type=Result)
    frame = Frame.load(folder / CORPUS)
    with np.load(folder / CASES, allow_pickle=False) as held:
        corpus = Corpus(frame, held["case"], held["column"])
    with np.load(folder / EXPECTED, allow_pickle=False) as held:
        expected = {
            name: held[f"output_{i}"] for i, (name, _, _) in enumerate(result.outputs)
            if f"output_{i}" in held
        }  # fmt: skip
    return Conversion((folder / MODEL).read_bytes(), result, corpus, expected)


def _ranges(frame: Frame) -> Frame:
    """Return a few rows with each column's extremes and words: all that a corpus asks of it."""
    columns = {}
    for name, column in frame.columns.items():
        if column.dtype == object:
            words = sorted({str(word) for word in column if word})[:64] or [""]
            columns[name] = np.array([words[i % len(words)] for i in range(64)] + [None], object)[
                :-1
            ]
        else:
            finite = column[np.isfinite(column)] if column.dtype.kind == "f" else column
            ends = [finite.min(), finite.max()] if len(finite) else [0, 1]
            columns[name] = np.resize(np.array(ends, dtype=column.dtype), 64)
    return Frame(columns)
