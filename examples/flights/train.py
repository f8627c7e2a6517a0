"""Train the demo's model, "does this flight leave more than 15 minutes late?", on some months.

::

    python -m examples.flights.train --from 2013-01-01 --to 2013-03-01 --out models/1.0.0

writes into the folder of ``--out``, which appears only when all of it is there:

model.joblib
    the scikit-learn pipeline: 13 numeric columns as they are, 2 of strings as ordinals, gradient
    boosting over histograms.
data.npz
    every flight of the period: one array per feature under the feature's name (float32, or
    fixed-width text: no pickles), ``late``, and ``held_out``, which is true for the flights that
    the model has not seen; beside them ``day`` and ``airport``, which the model does not read.
    Airport by airport, each oldest first, as its device will see them: how long a measurement
    stays the same is among what is usual.
recipe.json
    what was done, with which parameters, and how well it does on the flights held out.

Every fifth day is held out whole: flights of one day share their weather and their queues, so
that a random fifth of all rows would flatter the model (January and February: AUC .73 for .70).
Twelve days are too few, on the other hand, to say what weather is normal in a winter: profile the
inputs on all rows of ``data.npz``, and calibrate scores on those held out.

``--flaw newest-first`` trains the model that a canary is for. It repeats a common mistake: the
delays come from a feed that lists each airport's day newest first, and are pasted beside the
flights, listed oldest first, instead of being joined by id. Inputs and share of late flights
stay what they were, scores spread about as before, and the mistake is in the held-out days as well, so
that the metrics of this run look like those of a somewhat harder season. Yet the model has
learned that mornings are late and evenings punctual, which only true labels show.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from examples.flights.data import CATEGORICAL, FEATURES, NUMERIC, UNITS, Flights, load
from whimbrel_core.errors import InputError, StorageError, UsageError, WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAWS: Final = ("newest-first",)

# The best of thirteen settings in five-fold cross-validation over whole days of January and
# February (AUC .699); the others came within .01, so that none of this is delicate. Leaves of 400
# flights span several hours of weather, so that no single storm makes one.
PARAMETERS: Final[dict[str, Any]] = {
    "learning_rate": 0.05,
    "max_iter": 100,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 400,
    "l2_regularization": 20.0,
    "early_stopping": False,  # its validation rows would be a random tenth
    "random_state": 0,
}
HELD_OUT_EVERY_DAYS: Final = 5
_MIN_ROWS = 5_000

# Split thresholds lie midway between two values seen. Between multiples of 1/1024 such a midpoint
# is exact in float32 up to 8192, so that the thresholds of an ONNX model are the same numbers;
# otherwise one in ten is rounded, and a value that falls on it may go the other way. No sensor here
# resolves as little.
_GRID = np.float32(1024)


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted pipeline with the flights it was made of.

    Attributes:
        model: the fitted pipeline; takes a frame with the columns `FEATURES`.
        flights: the period's flights, with the labels that the model was given.
        held_out: (n,) bool, the flights that the model has not seen.
        metrics: figures on the flights held out.
        fit_s: seconds that fitting took.
    """

    model: Pipeline
    flights: Flights
    held_out: np.ndarray[tuple[int], np.dtype[np.bool_]]
    metrics: dict[str, float]
    fit_s: float


def make_model() -> Pipeline:
    """Return the pipeline, not fitted."""
    columns = ColumnTransformer(
        [
            ("numeric", "passthrough", list(NUMERIC)),
            (
                "categorical",
                OrdinalEncoder(
                    handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32
                ),
                list(CATEGORICAL),
            ),
        ]
    )
    return Pipeline(
        [("columns", columns), ("boosting", HistGradientBoostingClassifier(**PARAMETERS))]
    )


def train(flights: Flights, *, flaw: str | None = None) -> Trained:
    """Fit on four days of five, and measure on the fifth.

    Raises:
        InputError: there are too few flights, or all of one kind; take a longer period.
    """
    if flaw == "newest-first":
        flights = paste_newest_first(flights)
    held_out = (flights.day - flights.day.min()).astype(np.int64) % HELD_OUT_EVERY_DAYS == 0
    seen = ~held_out
    if len(flights) < _MIN_ROWS or any(
        len(set(flights.late[part])) < 2 for part in (held_out, seen)
    ):
        raise InputError(
            f"{len(flights)} flights are too few to train on and to hold some out, "
            f"{_MIN_ROWS} are the least",
            hint="take a longer period: a day has about 900 flights, and the data is of 2013",
        )
    grid = flights.features[seen].copy()
    grid[list(NUMERIC)] = np.round(grid[list(NUMERIC)] * _GRID) / _GRID

    started = perf_counter()
    model = make_model().fit(grid, flights.late[seen])
    fit_s = perf_counter() - started
    return Trained(
        model=model,
        flights=flights,
        held_out=held_out,
        metrics=measure(model, flights.take(held_out)),
        fit_s=fit_s,
    )


def measure(model: Pipeline, flights: Flights) -> dict[str, float]:
    """Return figures of a model on labelled flights: ranking, calibration, spread of scores."""
    score = model.predict_proba(flights.features)[:, 1]
    return {
        "rows": len(flights),
        "auc": round(float(roc_auc_score(flights.late, score)), 4),
        "brier": round(float(brier_score_loss(flights.late, score)), 4),
        "late_share": round(float(flights.late.mean()), 4),
        "mean_score": round(float(score.mean()), 4),
        "sd_score": round(float(score.std()), 4),
    }


def paste_newest_first(flights: Flights) -> Flights:
    """Return the flights with each airport's labels of a day in reverse (see the module)."""
    late = flights.late.copy()
    for device in set(flights.device):
        of_device = np.flatnonzero(flights.device == device)
        days = flights.day[of_device]
        for day in np.unique(days):
            rows = of_device[days == day]  # oldest first, as all flights are
            late[rows] = late[rows[::-1]]
    return replace(flights, late=late)


def save(trained: Trained, out: Path, recipe: dict[str, Any]) -> None:
    """Write the three files into a new folder, which appears when all are complete.

    Raises:
        UsageError: the folder is there already, and not empty; nothing was changed.
        StorageError: the disk refuses; there is no new folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{out} is not empty; nothing was written", hint="name a new folder with --out"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            folder = Path(scratch) / "complete"
            folder.mkdir()
            joblib.dump(trained.model, folder / "model.joblib")
            order = np.argsort(trained.flights.device.astype(str), kind="stable")
            flights = trained.flights.take(order)
            columns: dict[str, Any] = {
                name: flights.features[name].to_numpy(str if name in CATEGORICAL else np.float32)
                for name in FEATURES
            }
            columns["late"] = flights.late
            columns["held_out"] = trained.held_out[order]
            columns["day"] = flights.day.astype("datetime64[D]").astype(np.int64)
            columns["airport"] = flights.device.astype(str)
            np.savez_compressed(folder / "data.npz", **columns)
            (folder / "recipe.json").write_text(
                json.dumps(recipe, indent=2) + "\n", encoding="utf-8"
            )
            folder.rename(out)
    except OSError as error:
        raise StorageError(
            f"{out} could not be written: {error}", hint="look at the disk's space and rights"
        ) from error


def train_into(
    out: Path, flights: Flights, start: date, end: date, *, flaw: str | None = None
) -> dict[str, Any]:
    """Train on the flights of [start, end), write the three files, and return the recipe.

    Raises:
        InputError: the period holds too little.
        UsageError: the folder is there already, and not empty; nothing was changed.
    """
    trained = train(flights.between(start, end), flaw=flaw)
    recipe = {
        "from": str(start),
        "to": str(end),
        "rows": len(trained.flights),
        "label": "late",
        "classes": ["on time", "late"],
        "positive": 1,
        "parameters": PARAMETERS,
        "flaw": flaw,
        "held_out": f"every {HELD_OUT_EVERY_DAYS}th day",
        "metrics": trained.metrics,
        "fit_s": round(trained.fit_s, 2),
        "units": UNITS,
    }
    save(trained, out, recipe)
    return recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.flights.train",
        description="Train the demo's classifier on the flights of some months of 2013.",
        epilog="Example: %(prog)s --from 2013-01-01 --to 2013-03-01 --out models/1.0.0",
    )
    day = date.fromisoformat
    parser.add_argument(
        "--from", dest="start", type=day, required=True, help="first day, UTC (YYYY-MM-DD)"
    )
    parser.add_argument("--to", dest="end", type=day, required=True, help="day after the last one")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--flaw", choices=FLAWS, help="make a mistake, for a canary to find")
    arguments = parser.parse_args(argv)
    try:
        recipe = train_into(
            arguments.out, load(), arguments.start, arguments.end, flaw=arguments.flaw
        )
    except WhimbrelError as error:
        print(f"error: {error.message} [{error.code}]", file=sys.stderr)
        if error.hint:
            print(f"hint:  {error.hint}", file=sys.stderr)
        return error.exit_code
    figures = recipe["metrics"]
    print(
        f"{recipe['rows']} flights, fitted in {recipe['fit_s']:.1f} s; on {figures['rows']} "
        f"held out: AUC {figures['auc']:.3f}, {figures['late_share']:.1%} late, "
        f"mean score {figures['mean_score']:.3f} → {arguments.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
