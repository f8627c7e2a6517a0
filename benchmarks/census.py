"""Quality without labels: from counts, beside NannyML's estimates from raw rows, on its own data.

- Classification: the US census (ACS, Massachusetts) that ships with NannyML; CBPE in chunks of
  5,000 rows, as its documentation has it. Ours is score counts times the calibration table.
- Regression: its synthetic car prices; DLE (a model of the error, over all inputs) in chunks of
  6,000. Ours is counts of the predicted value times the declared error model, and knows no inputs.

Both sides have the same reference rows with labels, the same chunks, and no label of a chunk. Needs
`make peers`. Run it with ``python -m benchmarks.census``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from benchmarks.peers import PeerMissingError, ask
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.quality.estimates import expected_of
from whimbrel_core.profile.window import decode, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.quality.estimates import ExpectedQuality

    Floats = NDArray[Any]

TARGETS = {"accuracy": 0.0050, "AUC": 0.0040}


class Line(NamedTuple):
    """One measure over all chunks."""

    data: str
    measure: str
    chunks: int
    realised: tuple[float, float]  # smallest, largest
    ours: float  # mean absolute error
    theirs: float
    their_name: str


def main() -> None:
    """Estimate both, and print."""
    try:
        lines = [*census(ask("estimates", "census")), *cars(ask("estimates", "cars"))]
    except PeerMissingError as error:
        sys.exit(str(error))
    print("mean absolute error of quality estimated without labels, over all chunks")
    print(
        f"{'':<30}{'chunks':>7}{'realised from … to':>22}{'ours':>10}{'target':>9}{'NannyML':>18}"
    )
    for line in lines:
        digits = 4 if line.realised[1] <= 1 else 1
        span = f"{line.realised[0]:,.{digits}f} … {line.realised[1]:,.{digits}f}"
        target = TARGETS.get(line.measure)
        print(
            f"{line.data + ', ' + line.measure:<30}{line.chunks:>7}{span:>22}{line.ours:>10.5g}"
            f"{'' if target is None else f'{target:g}':>9}"
            f"{f'{line.theirs:.5g} ({line.their_name})':>18}"
        )


def census(answer: dict[str, Any]) -> list[Line]:
    """Return accuracy and AUC of the classification."""
    reference = {name: np.array(values) for name, values in answer["reference"].items()}
    baseline = build(
        [
            ColumnSpec("label", "output", "label", 0, reference["predicted"].astype(np.float32)),
            ColumnSpec("p", "output", "p", 0, reference["score"].astype(np.float32)),
        ],
        task="classification", classes=["0", "1"], positive=1, score_tensor="p",
        labels=reference["label"], scores=reference["score"], predicted=reference["predicted"],
    )  # fmt: skip
    rows = {name: np.array(values) for name, values in answer["analysis"].items()}
    found, true = [], []
    for part in _chunks(answer):
        chunk = {"label": rows["predicted"][part], "p": rows["score"][part]}
        found.append(_promised(baseline, chunk))
        label = rows["label"][part]
        true.append(((rows["predicted"][part] == label).mean(), _auc(label, rows["score"][part])))
    return [
        _line("census", "accuracy", "accuracy", [x.accuracy for x in found],
              [x[0] for x in true], answer, "CBPE"),
        _line("census", "AUC", "roc_auc", [x.auc for x in found],
              [x[1] for x in true], answer, "CBPE"),
    ]  # fmt: skip


def cars(answer: dict[str, Any]) -> list[Line]:
    """Return MAE and RMSE of the regression."""
    reference, rows = answer["reference"], answer["analysis"]
    predicted = np.array(reference["y_pred"])
    baseline = build(
        [ColumnSpec("price", "output", "price", 0, predicted.astype(np.float32))],
        task="regression", labels=np.array(reference["y_true"]), predicted=predicted,
    )  # fmt: skip
    found, true = [], []
    for part in _chunks(answer):
        said = np.array(rows["y_pred"])[part]
        found.append(_promised(baseline, {"price": said}))
        error = said - np.array(rows["y_true"])[part]
        true.append((np.abs(error).mean(), np.sqrt((error**2).mean())))
    return [
        _line("car prices", name, key, [getattr(x, key) for x in found],
              [x[i] for x in true], answer, "DLE")
        for i, (name, key) in enumerate((("MAE", "mae"), ("RMSE", "rmse")))
    ]  # fmt: skip


def _chunks(answer: dict[str, Any]) -> list[slice]:
    return [slice(a, b) for a, b in zip(answer["starts"], answer["ends"], strict=True)]


def _promised(baseline: Baseline, columns: dict[str, Floats]) -> ExpectedQuality:
    """Return what is expected of rows that a device counted and sent."""
    accumulator = Accumulator(baseline)
    tensors = {name: values.astype(np.float32)[:, np.newaxis] for name, values in columns.items()}
    accumulator.update(tensors)
    found = expected_of(decode(encode(accumulator.window(0, 1))), baseline)
    if found is None:
        raise AssertionError("the baseline promises nothing")
    return found


def _line(  # noqa: PLR0917 — one row of a table
    data: str,
    measure: str,
    key: str,
    ours: list[float | None],
    true: list[float],
    answer: dict[str, Any],
    name: str,
) -> Line:
    real = np.array(true, float)
    theirs = np.array(answer["estimated"][key])
    return Line(
        data,
        measure,
        len(real),
        (float(real.min()), float(real.max())),
        float(np.abs(np.array(ours, float) - real).mean()),
        float(np.abs(theirs - real).mean()),
        name,
    )


def _auc(label: Floats, score: Floats) -> float:
    """Return the area under the ROC curve of raw scores, from ranks; ties count half."""
    ranks = rankdata(score)
    positives = int(label.sum())
    pairs = positives * (len(label) - positives)
    return float((ranks[label == 1].sum() - positives * (positives + 1) / 2) / pairs)


if __name__ == "__main__":
    main()
