"""Profiles: what counting, sending, merging and judging cost, per row and per window.

20 float32 features, one thread, as in a worker. Beside each figure stands what is usually written
in its place: a numpy or pandas summary of the same rows in the same run. Run it with
``python -m benchmarks.profile``.

Sorting is most of the cost of counting, and depends on the CPU: on Zen 4, numpy's AVX-512 sort is
much slower than its AVX2 one, and a worker switches it off (`whimbrel_agent.serving.simd`). Where
the CPU has AVX-512, counting is measured again in a child process without it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the worker sets it, before numpy's import

import argparse
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counting.kernel import fastest_kernel
from whimbrel_core.profile.drift.findings import Inspector
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.stacking import stacked
from whimbrel_core.profile.flat import decode as decode_flat
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.slices import Slice
from whimbrel_core.profile.watching.sequential import Detector
from whimbrel_core.profile.window import decode, encode, merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

FEATURES = 20
SLICES = 4
WINDOW_ROWS = 3600
_WITHOUT_AVX512 = "X86_V4 AVX512_ICL AVX512_SPR"


class Line(NamedTuple):
    """One line of the table."""

    what: str
    figure: float
    unit: str
    target: float | None = None
    usual: str = ""
    usual_figure: float | None = None


def micros(act: Callable[[], object], *, repeats: int = 25, seconds: float = 0.25) -> float:
    """Return the least time of one ``act`` in µs, over many short runs: neighbours come and go."""
    act()
    times = 1
    while True:
        started = time.perf_counter()
        for _ in range(times):
            act()
        took = time.perf_counter() - started
        if took > seconds / repeats:
            break
        times *= 2
    best = took
    for _ in range(repeats - 1):
        started = time.perf_counter()
        for _ in range(times):
            act()
        best = min(best, time.perf_counter() - started)
    return best / times * 1e6


def reference_rows(n: int = 20_000) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(n, FEATURES)).astype(np.float32)


def reference(rows: NDArray[np.float32], slices: int = 0) -> Baseline:
    return build(
        [ColumnSpec(f"f{i}", "input", "x", i, rows[:, i]) for i in range(FEATURES)],
        task="regression",
        slices=[Slice(name=f"f{i} > 0", feature=f"f{i}", low=0.0) for i in range(slices)],
    )


def fresh_window(baseline: Baseline) -> Window:
    """Return a window of rows that the reference does not hold: those deflate a little better."""
    rows = np.random.default_rng(1).normal(size=(WINDOW_ROWS, FEATURES)).astype(np.float32)
    accumulator = Accumulator(baseline)
    accumulator.update({"x": rows})
    return accumulator.window(1_700_000_000_000, 1_700_000_300_000)


def counting(baseline: Baseline, rows: NDArray[np.float32]) -> dict[str, float]:
    """Return µs per row: one by one as ready rows and as tensors, and in batches."""
    accumulator = Accumulator(baseline)
    some = rows[:4096]
    ready = list(some)
    single = [{"x": some[i : i + 1]} for i in range(len(some))]
    batches = [{"x": some[i : i + 256]} for i in range(0, len(some), 256)]

    def one_by_one() -> None:
        for row in ready:
            accumulator.update_row(row)

    def by_tensor() -> None:
        for tensors in single:
            accumulator.update(tensors)

    def batched() -> None:
        for tensors in batches:
            accumulator.update(tensors)

    return {
        "row": micros(one_by_one) / len(some),
        "tensor": micros(by_tensor) / len(some),
        "batch": micros(batched) / len(some),
    }


def counting_without_avx512() -> dict[str, float] | None:
    """Return `counting` of a child whose numpy does not use AVX-512; None without AVX-512."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.profile", "--counting"],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": _WITHOUT_AVX512},
        capture_output=True,
        text=True,
        check=False,
    )
    if (
        child.returncode or "Warning" in child.stderr
    ):  # this CPU, or this numpy, has none to disable
        return None
    found: dict[str, float] = json.loads(child.stdout)
    return found


def naive_counting(baseline: Baseline, rows: NDArray[np.float32]) -> float:
    """Return µs per row of np.histogram, mean, sd, min and max per column, in one batch."""
    edges = [np.array(feature.edges) for feature in baseline.layout.features]
    some = rows[:4096]

    def summarise() -> None:
        for index in range(FEATURES):
            column = some[:, index]
            finite = column[np.isfinite(column)]
            np.histogram(finite, edges[index])
            finite.mean(), finite.std(), finite.min(), finite.max()

    return micros(summarise) / len(some)


def pandas_describe(rows: NDArray[np.float32]) -> float | None:
    """Return µs per window of `DataFrame.describe`, or None without pandas."""
    try:
        import pandas as pd
    except ImportError:
        return None
    frame = pd.DataFrame(rows[:WINDOW_ROWS])
    return micros(frame.describe)


def naive_judging(rows: NDArray[np.float32]) -> float:
    """Return µs per window of PSI on deciles and a sorted two-sample KS, from raw rows."""
    reference, window = rows[:5000], rows[5000 : 5000 + WINDOW_ROWS]
    deciles = [np.quantile(reference[:, i], np.arange(1, 10) / 10) for i in range(FEATURES)]

    def judge() -> None:
        for index in range(FEATURES):
            a, b = np.sort(reference[:, index]), np.sort(window[:, index])
            p = np.bincount(deciles[index].searchsorted(a), minlength=10) / len(a)
            q = np.bincount(deciles[index].searchsorted(b), minlength=10) / len(b)
            ((q - p) * np.log(q / p)).sum()
            both = np.concatenate([a, b])
            gap = a.searchsorted(both, "right") / len(a) - b.searchsorted(both, "right") / len(b)
            np.abs(gap).max()

    return micros(judge)


def measured() -> list[Line]:
    """Measure everything."""
    rows = reference_rows()
    baseline = reference(rows)
    counted = counting(baseline, rows)
    naive = naive_counting(baseline, rows)
    lines = [
        Line("count a row, one by one", counted["row"], "µs/row", 0.35),
        Line("count a row, one by one, from tensors", counted["tensor"], "µs/row"),
        Line("count a row, batched", counted["batch"], "µs/row", 0.08, "np.histogram …", naive),
    ]
    again = counting_without_avx512()
    if again is not None:
        lines += [
            Line("  the same without AVX-512, one by one", again["row"], "µs/row", 0.35),
            Line("  the same without AVX-512, batched", again["batch"], "µs/row", 0.08),
        ]
    accumulator = Accumulator(baseline)
    accumulator.update({"x": rows[:WINDOW_ROWS]})
    window = fresh_window(baseline)
    sent = encode(window)
    sliced = reference(rows, SLICES)
    flat, inspector = flatten(window), Inspector(baseline)
    judge, detector = Judge(baseline), Detector(baseline)
    cells, invalid, _ = stacked([flat], baseline.layout)
    many = (np.tile(cells, (100, 1)), np.tile(invalid, (100, 1)), np.full(100, window.rows))
    state, seen = detector.start(), detector.observe(window)
    total = cells.copy()
    raw_bytes = float(rows[:WINDOW_ROWS].nbytes)
    lines += [
        Line("state of an open window", Accumulator.size(baseline) / 1000, "kB", 400),
        Line("window on the wire", len(sent) / 1000, "kB", 1.5, "raw rows", raw_bytes / 1000),
        Line(f"  the same with {SLICES} slices", len(encode(fresh_window(sliced))) / 1000, "kB"),
        Line(f"count a row, batched, {SLICES} slices", counting(sliced, rows)["batch"], "µs/row"),
        Line("baseline in a bundle", len(baseline.encode()) / 1000, "kB"),
        Line(
            "close a window", micros(lambda: accumulator.window(0, 1)), "µs", None,
            "DataFrame.describe", pandas_describe(rows),
        ),
        Line("encode a window", micros(lambda: encode(window)), "µs"),
        Line("decode a window, checked", micros(lambda: decode(sent)), "µs"),
        Line("  the same into arrays", micros(lambda: decode_flat(sent)), "µs"),
        Line("look through its data quality", micros(lambda: inspector.inspect(flat)), "µs"),
        Line("merge two windows, without numpy", micros(lambda: merge(window, window)), "µs"),
        Line("merge counts as arrays", micros(lambda: np.add(total, cells, out=total)), "µs", 1.9),
        Line("judge a window, one at a time", micros(lambda: judge.judge(window)), "µs"),
        Line(
            "judge a window, of a hundred", micros(lambda: judge.measure(*many)) / 100, "µs", 28,
            "PSI and KS of rows", naive_judging(rows),
        ),
        Line("watch a window (e-detector)", micros(lambda: detector.advance(state, seen)), "µs"),
    ]  # fmt: skip
    return lines


def table(lines: list[Line]) -> str:
    """Return the lines side by side; × is how many times the usual way costs."""
    head = (
        f"{'':<40}{'figure':>10}  {'unit':<8}{'target':>8}  {'the usual way':<20}{'':>10}{'×':>8}"
    )
    out = [head]
    for line in lines:
        target = "" if line.target is None else f"{line.target:g}"
        usual = "" if line.usual_figure is None else f"{line.usual_figure:,.2f}"
        ratio = "" if line.usual_figure is None else f"{line.usual_figure / line.figure:,.1f}"
        out.append(
            f"{line.what:<40}{line.figure:>10,.3f}  {line.unit:<8}{target:>8}  "
            f"{line.usual if usual else '':<20}{usual:>10}{ratio:>8}"
        )
    return "\n".join(out)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--counting", action="store_true", help="measure counting alone, and print it as JSON"
    )
    chosen = parser.parse_args()
    if chosen.counting:
        rows = reference_rows()
        print(json.dumps(counting(reference(rows), rows)))
        return
    lines = measured()
    if chosen.json:
        print(json.dumps([line._asdict() for line in lines]))
        return
    print(f"{FEATURES} float32 features, windows of {WINDOW_ROWS} rows, kernel: {fastest_kernel()}")
    print(table(lines))


if __name__ == "__main__":
    main()
