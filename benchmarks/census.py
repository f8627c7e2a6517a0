"""Quality of a classifier without labels: from score counts, beside NannyML's estimates from raw rows.

The US census (ACS, Massachusetts) that ships with NannyML; CBPE in chunks of 5,000 rows, as its
documentation has it. Ours is score counts times the calibration table.

Both sides have the same reference rows with labels, the same chunks, and no label of a chunk. Needs
`make peers`. Run it with ``python -m benchmarks.census``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from benchmarks._estimates import Line, line, promised, table
from benchmarks.peers import PeerMissingError, ask
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

TARGETS = {"accuracy": 0.0050, "AUC": 0.0040}


def main() -> None:
    """Estimate both, and print."""
    try:
        lines = census(ask("estimates", "census"))
    except PeerMissingError as error:
        sys.exit(str(error))
    print(table(lines, TARGETS))


def census(answer: dict[str, Any]) -> list[Line]:
    """Return accuracy and AUC."""
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
    for start, end in zip(answer["starts"], answer["ends"], strict=True):
        part = slice(start, end)
        found.append(
            promised(baseline, {"label": rows["predicted"][part], "p": rows["score"][part]})
        )
        label = rows["label"][part]
        true.append(((rows["predicted"][part] == label).mean(), _auc(label, rows["score"][part])))
    return [
        line(
            "US census", name,
            true=[x[i] for x in true], ours=[getattr(x, key) for x in found],
            theirs=answer["estimated"][theirs], name="CBPE",
        )
        for i, (name, key, theirs) in enumerate(
            (("accuracy", "accuracy", "accuracy"), ("AUC", "auc", "roc_auc"))
        )
    ]  # fmt: skip


def _auc(label: Floats, score: Floats) -> float:
    """Return the area under the ROC curve of raw scores, from ranks; ties count half."""
    ranks = rankdata(score)
    positives = int(label.sum())
    pairs = positives * (len(label) - positives)
    return float((ranks[label == 1].sum() - positives * (positives + 1) / 2) / pairs)


if __name__ == "__main__":
    main()
