"""What river's drift detectors find in the annotated series that river brings, and in made ones.

Asked by `benchmarks.change_points`, in the peers' environment. A detector sees one column; a series
of several columns has a detector for each, and every alarm of any of them is a change point
(detectors start anew after an alarm by themselves). They tell *that* something has changed and
not since when: the change point is the observation at which they told it.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.peers import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAMES = ("AirlinePassengers", "Bitcoin", "Occupancy", "RunLog", "UKCoalEmploy")
SEED = 1
# Some dozen combinations each, around the defaults and around these series' lengths.
GRIDS: dict[str, dict[str, list[Any]]] = {
    "ADWIN": {
        "delta": [0.002, 0.01, 0.05, 0.2, 0.5],
        "clock": [1, 8, 32],
        "grace_period": [5, 10, 30],
    },
    "PageHinkley": {
        "delta": [0.0005, 0.005, 0.05, 0.5],
        "threshold": [1.0, 5.0, 20.0, 50.0, 200.0, 1000.0],
        "min_instances": [10, 30],
    },
    "KSWIN": {
        "alpha": [0.0001, 0.001, 0.005, 0.02],
        "window_size": [60, 100, 200],
        "stat_size": [10, 20, 30],
    },
}


class Run(NamedTuple):
    """One detector with its options.

    Args:
        detector: class in river.drift.
        options: of it; none are the defaults.
        standardised: whether every column is divided by its standard deviation over the whole
            series. Nobody has that beforehand; it is to river's advantage.
    """

    detector: str
    options: dict[str, Any]
    standardised: bool = False


def answer(request: dict[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the series, and what every detector finds in them.

    Args:
        request: {"kinds": names of made series}.
        arrays: (series, n) of each of those, by "made<number>".
    """
    import river
    from river import drift
    from river.drift import datasets

    series = {}
    for name in NAMES:
        source = getattr(datasets, name)()
        targets = [y.values() if isinstance(y, dict) else [y] for _, y in source]
        series[name] = {
            "rows": [[float(value) for value in row] for row in targets],
            "annotations": list(source.annotations.values()),
        }

    runs: list[Run] = [Run(kind, {}) for kind in GRIDS]
    for kind, grid in GRIDS.items():
        values = itertools.product(*grid.values())
        tried = [dict(zip(grid, some, strict=True)) for some in values]
        runs += [Run(kind, options) for options in tried]
        if kind == "PageHinkley":  # its threshold is absolute, and a series has a unit
            runs += [Run(kind, options, standardised=True) for options in tried]

    def maker(run: Run) -> Callable[[], Any]:
        seed = {"seed": SEED} if run.detector == "KSWIN" else {}
        return partial(getattr(drift, run.detector), **run.options, **seed)

    found = []
    for run in runs:
        told = {
            name: alarms(maker(run), given["rows"], standardised=run.standardised)
            for name, given in series.items()
        }
        found.append({**run._asdict(), "found": told})
    made = {
        kind: {
            name: [
                alarms(maker(Run(kind, {})), [[value] for value in one.tolist()])
                for one in arrays[f"made{number}"]
            ]
            for number, name in enumerate(request["kinds"])
        }
        for kind in GRIDS
    }
    return {"version": river.__version__, "series": series, "runs": found, "made": made}


def alarms(
    make: Callable[[], Any], rows: list[list[float]], *, standardised: bool = False
) -> list[int]:
    """Return the observations at which a detector of any column alarms.

    Args:
        make: makes a detector.
        rows: (n, columns).
        standardised: see `Run`.
    """
    import numpy as np

    columns = np.array(rows).T
    if standardised:
        columns = columns / columns.std(axis=1, keepdims=True)
    told = set()
    for column in columns.tolist():
        detector = make()
        for at, value in enumerate(column):
            detector.update(value)
            if detector.drift_detected:
                told.add(at)
    return sorted(told)


if __name__ == "__main__":
    serve(answer)
