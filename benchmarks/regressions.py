"""Error of regressions without labels: from counts of leaves, beside NannyML's DLE from raw rows.

- *Car prices*, which ship with NannyML: chunks of 6,000, as its documentation has it; and with 3,000
  reference rows in place of 60,000, three times.
- *Friedman #1* as scikit-learn makes it, with noise that depends on two inputs together: these come
  to go together more and more, while a third one wanders. Two models, four draws each.
- *Flights* of New York in 2013: minutes late on arrival, by a model of the first quarter; chunks of
  10,000 of the rest of the year. Not only inputs drift here, but what delays a flight: what nobody can
  tell without labels is in both sides' errors.

Both sides have the same held-out reference rows with labels, the same chunks, and no label of a chunk.
DLE is a LightGBM model of the error, over all inputs and raw rows. What counting leaves takes is beside
the same layout without a tree. Needs `make peers`. Run it with ``python -m benchmarks.regressions``.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from benchmarks._estimates import Line, line, promised, table
from benchmarks.peers import PeerMissingError, ask
from examples.flights import data as flight_data
from whimbrel_core.errors import UnavailableError
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.slices import Slice
from whimbrel_core.profile.window import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline

    Columns = dict[str, NDArray[Any]]

_DRAWS = 4
_TURNS = 400
_SEED = 90_210  # not one that anything was tuned with


class Case(NamedTuple):
    """A regression: inputs by name, with ``y_pred`` and ``y_true``."""

    name: str
    reference: Columns
    analysis: Columns
    chunk: int

    @property
    def chunks(self) -> list[slice]:
        """The whole chunks of the analysis."""
        rows = len(self.analysis["y_true"])
        return [slice(at, at + self.chunk) for at in range(0, rows - self.chunk + 1, self.chunk)]


def main() -> None:
    """Estimate both, and print."""
    try:
        lines = [mean for cases in _cases() for mean in _together([compare(one) for one in cases])]
    except PeerMissingError as error:
        sys.exit(str(error))
    print(table(lines, {}))
    print(*_costs(), sep="\n")


def _costs() -> Iterator[str]:
    """Yield what a tree of 64 leaves over 20 columns costs a device."""
    rng = np.random.default_rng(_SEED)
    rows = rng.normal(size=(20_000, 20)).astype(np.float32)
    columns = [
        ColumnSpec(f"x{i}", "output" if i == 19 else "input", "x", i, rows[:, i]) for i in range(20)
    ]
    spread = np.exp(rows[:, 0] / 2 + rows[:, 1] * rows[:, 2] / 3 + 0.4 * (rows[:, 5] > 0))
    labels = rows[:, 19] - spread * rng.normal(size=len(rows))
    for slices in (0, 16):
        declared = [Slice(name=f"s{i}", feature=f"x{i}", low=0.0) for i in range(slices)]
        build_ = partial(build, columns, task="regression", slices=declared)
        bare, tree = build_(), build_(labels=labels)
        full = [us / 4096 for us in _flushes((bare, tree), rows[:4096])]
        few = _flushes((bare, tree), rows[:100])
        sent = [len(encode(_counted(one, rows[:3600]).window(0, 1))) for one in (bare, tree)]
        state = [Accumulator.size(one) for one in (bare, tree)]
        yield (
            f"without, with {tree.layout.score_cells} leaves, {slices} slices: "
            f"{full[0]:.3f}, {full[1]:.3f} µs a row in full rings; "
            f"{few[0]:.0f}, {few[1]:.0f} µs a flush of 100 rows; "
            f"{sent[0]:,}, {sent[1]:,} bytes a window; {state[0]:,}, {state[1]:,} bytes of state"
        )


def _counted(baseline: Baseline, rows: NDArray[np.float32]) -> Accumulator:
    accumulator = Accumulator(baseline)
    accumulator.update_rows(rows)
    return accumulator


def _flushes(baselines: Sequence[Baseline], rows: NDArray[np.float32]) -> list[float]:
    """Return the least µs to take ``rows`` and to count them, by turns: neighbours come and go."""
    accumulators = [Accumulator(one) for one in baselines]
    best = [math.inf] * len(accumulators)
    for _ in range(_TURNS):
        for index, accumulator in enumerate(accumulators):
            started = perf_counter()
            accumulator.update_rows(rows)
            accumulator.flush()
            best[index] = min(best[index], perf_counter() - started)
    return [1e6 * seconds for seconds in best]


def compare(case: Case) -> list[Line]:
    """Return MAE and RMSE of one regression. Raises `PeerMissingError`."""
    answer = ask(
        "estimates",
        {"regression": case.chunk},
        **{f"reference {name}": _plain(values) for name, values in case.reference.items()},
        **{f"analysis {name}": _plain(values) for name, values in case.analysis.items()},
    )
    inputs = [name for name in case.reference if name not in {"y_pred", "y_true"}]
    baseline = build(
        [
            *(ColumnSpec(name, "input", name, 0, case.reference[name]) for name in inputs),
            ColumnSpec("y_pred", "output", "y_pred", 0, case.reference["y_pred"]),
        ],
        task="regression",
        labels=case.reference["y_true"],
    )
    found, true = [], []
    for part in case.chunks:
        rows = {name: values[part] for name, values in case.analysis.items()}
        error = rows["y_pred"] - rows.pop("y_true")
        found.append(promised(baseline, rows))
        true.append((np.abs(error).mean(), np.sqrt((error**2).mean())))
    return [
        line(
            case.name, name,
            true=[x[i] for x in true], ours=[getattr(x, key) for x in found],
            theirs=answer[key], name="DLE",
        )
        for i, (name, key) in enumerate((("MAE", "mae"), ("RMSE", "rmse")))
    ]  # fmt: skip


def _cases() -> Iterator[list[Case]]:
    cars = ask("estimates", "cars")
    reference, analysis = (
        {n: _column(v) for n, v in cars[k].items()} for k in ("reference", "analysis")
    )
    yield [Case("car prices", reference, analysis, 6000)]
    rng = np.random.default_rng(_SEED)
    some = [rng.choice(len(reference["y_true"]), 3000, replace=False) for _ in range(3)]
    yield [
        Case(
            "car prices, 3,000 reference rows",
            {n: v[own] for n, v in reference.items()},
            analysis,
            6000,
        )
        for own in some
    ]
    for name in ("linear", "boosted trees"):
        yield [_friedman(name, _SEED + 1000 * draw) for draw in range(_DRAWS)]
    try:
        yield [_flights()]
    except UnavailableError as error:
        print(error, file=sys.stderr)


def _friedman(kind: str, seed: int) -> Case:
    """Return Friedman's function, with covariates that drift, and a model that does not know."""
    model = (
        LinearRegression() if kind == "linear" else HistGradientBoostingRegressor(random_state=0)
    )
    x, y = _drawn(20_000, seed, together=0, shift=0)
    model.fit(x, y)

    def rows(n: int, draw: int, *, together: float, shift: float) -> Columns:
        x, y = _drawn(n, draw, together=together, shift=shift)
        inputs = {f"x{i}": column for i, column in enumerate(x.T)}
        return {**inputs, "y_pred": model.predict(x), "y_true": y}

    parts = [rows(5000, seed + 2 + i, together=0.12 * i, shift=0.3 * (i % 4)) for i in range(8)]
    analysis = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    reference = rows(10_000, seed + 1, together=0, shift=0)
    return Case(f"Friedman #1, {kind}", reference, analysis, 5000)


def _drawn(
    n: int, seed: int, *, together: float, shift: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return uniform inputs (n, 10), two of which go ``together``, and what follows from them."""
    rng = np.random.default_rng(seed)
    z, common = rng.normal(size=(n, 10)), rng.normal(size=n)
    for i in (0, 3):
        z[:, i] = np.sqrt(1 - together) * z[:, i] + np.sqrt(together) * common
    z[:, 1] += shift
    x = norm.cdf(z)
    # As `sklearn.datasets.make_friedman1`, whose inputs are independent and noise is the same.
    y = (
        10 * np.sin(np.pi * x[:, 0] * x[:, 1])
        + 20 * (x[:, 2] - 0.5) ** 2
        + 10 * x[:, 3]
        + 5 * x[:, 4]
    )
    noise = 0.3 + 3 * x[:, 0] * x[:, 3] ** 2 + 1.5 * (x[:, 5] > 0.7)
    return x, y + noise * rng.normal(size=n)


def _flights() -> Case:
    """Return minutes late on arrival, by a model of the first quarter. Raises `UnavailableError`."""
    import pandas as pd

    folder = flight_data.package_data()
    table = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["arr_delay"])
    weather = pd.read_csv(folder / "weather.csv")
    sky = ["temp", "wind_speed", "precip", "visib", "pressure", "humid"]
    table = table.merge(
        weather[["origin", "time_hour", *sky]], on=["origin", "time_hour"], how="left"
    ).sort_values(["time_hour", "minute", "flight", "origin"], ignore_index=True)
    table["weekday"] = pd.to_datetime(table[["year", "month", "day"]]).dt.day_of_week
    table["minutes"] = table["hour"] * 60 + table["minute"]
    numbers, words = (
        ["dep_delay", "distance", "minutes", "weekday", *sky],
        ["carrier", "origin", "dest"],
    )
    coded = table[words].apply(lambda column: column.astype("category").cat.codes)
    inputs = np.column_stack([table[numbers], coded]).astype(np.float32)
    late = table["arr_delay"].to_numpy(float)
    first = (table["month"] <= 3).to_numpy()
    held_out = first & (np.random.default_rng(_SEED).random(len(table)) < 0.4)
    trained = first & ~held_out
    model = HistGradientBoostingRegressor(random_state=0).fit(inputs[trained], late[trained])
    rows: Columns = {name: table[name].to_numpy(np.float64) for name in numbers}
    rows |= {name: table[name].to_numpy(object) for name in words}
    rows |= {"y_pred": model.predict(inputs), "y_true": late}
    return Case(
        "flights, minutes late",
        {name: values[held_out] for name, values in rows.items()},
        {name: values[~first] for name, values in rows.items()},
        10_000,
    )


def _together(draws: list[list[Line]]) -> Iterator[Line]:
    """Yield each measure's mean over all draws."""
    for lines in zip(*draws, strict=True):
        low, high = min(one.realised[0] for one in lines), max(one.realised[1] for one in lines)
        yield lines[0]._replace(
            chunks=sum(one.chunks for one in lines),
            realised=(low, high),
            ours=float(np.mean([one.ours for one in lines])),
            theirs=float(np.mean([one.theirs for one in lines])),
        )


def _column(values: list[Any]) -> NDArray[Any]:
    return np.array(values, object if isinstance(values[0], str) else np.float64)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return ``values`` as a file of arrays holds them: words without objects."""
    return values.astype(str) if values.dtype == object else values


if __name__ == "__main__":
    main()
