"""What profiles and drift cost, beside whylogs and evidently in one run: ratios, not only figures.

20 float32 features, windows of 3,600 rows, one thread, the same rows. whylogs logs rows as dicts
(one by one) and as a DataFrame (batched); "lean" is without its frequent items, which numbers do
not need. evidently has no profiles: it compares raw rows. Needs `make peers`. Run it with
``python -m benchmarks.cost``.

Where the CPU has AVX-512, ours is measured without it, as a worker runs (`benchmarks.profile`).
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the worker sets it, before numpy's import

import sys

import numpy as np

from benchmarks import profile
from benchmarks.peers import PeerMissingError, ask
from benchmarks.profile import FEATURES, WINDOW_ROWS, Line, micros
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.stacking import extent, stacked
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.window import encode

WINDOWS = 100


def measured() -> list[Line]:
    """Measure both sides.

    Raises:
        PeerMissingError: there is nothing to compare with.
    """
    rows = profile.reference_rows()
    theirs = ask("costs", {"window": WINDOW_ROWS}, rows=rows)
    baseline = profile.reference(rows)
    ours = profile.counting_without_avx512() or profile.counting(baseline, rows)
    drawn = np.random.default_rng(7).normal(size=(WINDOWS, WINDOW_ROWS, FEATURES))
    windows = []
    for one in drawn.astype(np.float32):
        accumulator = Accumulator(baseline)
        accumulator.update({"x": one})
        windows.append(accumulator.window(0, 1))
    flat = [flatten(window) for window in windows]
    judge = Judge(baseline)
    arrays, known = stacked(flat, baseline.layout), extent(flat)
    total = flat[0].counts.copy()
    sent = float(np.mean([len(encode(window)) for window in windows]))
    merge = micros(lambda: np.add(total, flat[1].counts, out=total))
    judging = micros(lambda: judge.measure(*arrays, known)) / WINDOWS
    return [
        Line("count a row, one by one", ours["row"], "µs/row", 0.35, "whylogs, dict", theirs["row"]),
        Line("count a row, batched", ours["batch"], "µs/row", 0.08, "whylogs, frame",
             theirs["batch"]),
        Line("", ours["batch"], "µs/row", 0.08, "whylogs, lean", theirs["batch_lean"]),
        Line("", ours["batch"], "µs/row", 0.08, "… of 20,000 rows", theirs["batch_large"]),
        Line("a window, as sent", sent / 1000, "kB", 1.5, "whylogs", theirs["bytes"] / 1000),
        Line("state of an open window", Accumulator.size(baseline) / 1000, "kB", 400),
        Line("merge two windows", merge, "µs", 2, "whylogs", theirs["merge"]),
        Line("compare with the reference", judging, "µs", 30, "whylogs, drift",
             theirs["compare"]),
        Line("", judging, "µs", 30, "evidently, rows", theirs["evidently"]),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    try:
        lines = measured()
    except PeerMissingError as error:
        sys.exit(str(error))
    load = os.getloadavg()[0]
    print(f"{FEATURES} float32 features, windows of {WINDOW_ROWS} rows, load average {load:.1f}")
    print(profile.table(lines))


if __name__ == "__main__":
    main()
