"""What counting, storing, merging and comparing cost with whylogs and evidently.

Runs in the peers' environment; see `benchmarks.cost`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.peers import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


def micros(act: Callable[[], object], *, times: int, repeats: int = 5) -> float:
    """Return the least time of one ``act`` in µs."""
    act()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(times):
            act()
        best = min(best, (time.perf_counter() - started) / times)
    return best * 1e6


def costs(request: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return µs and bytes.

    Args:
        request: "window": rows of a window.
        arrays: "rows" (n, F) float32.
    """
    import numpy as np
    import pandas as pd
    from whylogs.core import DatasetProfile
    from whylogs.core.resolvers import NO_FI_RESOLVER
    from whylogs.core.schema import DeclarativeSchema
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    rows = arrays["rows"]
    names = [f"f{i}" for i in range(rows.shape[1])]
    window = pd.DataFrame(rows[: request["window"]], columns=names)
    some = window.iloc[:500]
    singles: list[dict[str, float]] = some.astype(float).to_dict("records")

    def schema() -> Any:  # noqa: ANN401 — theirs
        return DeclarativeSchema(
            NO_FI_RESOLVER
        )  # no frequent items: the least it does with numbers

    def one_by_one() -> None:
        profile = DatasetProfile()
        for row in singles:
            profile.track(row)
        profile.flush()

    def batched() -> DatasetProfile:
        profile = DatasetProfile()
        profile.track(window)
        profile.flush()
        return profile

    def batched_lean() -> DatasetProfile:
        profile = DatasetProfile(schema=schema())
        profile.track(window)
        profile.flush()
        return profile

    large = pd.DataFrame(rows, columns=names)

    def batched_large() -> None:
        profile = DatasetProfile(schema=schema())
        profile.track(large)
        profile.flush()

    view = batched().view()
    other = DatasetProfile()
    other.track(pd.DataFrame(rows[-request["window"] :], columns=names))
    second = other.view()
    found = {
        "row": micros(one_by_one, times=1) / len(singles),
        "batch": micros(batched, times=1) / len(window),
        "batch_lean": micros(batched_lean, times=1) / len(window),
        "batch_large": micros(batched_large, times=1) / len(large),
        "bytes": float(len(view.serialize())),
        "merge": micros(lambda: view.merge(second), times=3),
        "compare": micros(lambda: calculate_drift_scores(second, view), times=3),
    }
    found["evidently"] = _evidently(window, pd.DataFrame(rows[:5000], columns=names))
    found["columns"] = float(np.shape(rows)[1])
    return found


def _evidently(window: Any, reference: Any) -> float:  # noqa: ANN401 — data frames
    """Return µs of evidently's default drift report; it has no profiles, and needs all rows."""
    from evidently import Dataset, Report
    from evidently.presets import DataDriftPreset

    ours, theirs = Dataset.from_pandas(window), Dataset.from_pandas(reference)
    return micros(lambda: Report([DataDriftPreset()]).run(ours, theirs).dict(), times=1, repeats=2)


if __name__ == "__main__":
    serve(costs)
