"""Change points: the product's series detector and river's, on annotated and on made series.

Run it with ``python -m benchmarks.change_points``, after ``make peers``.

*Annotated*: the five series of the Turing change point data set that come with river, each marked
by five people; F1 with a margin of 5 (`benchmarks._annotated`). The product's detector has one
setting, its default, for all of them. Series of several columns: the product tests the mean of the
columns' evidence (`update_together`); river's detectors watch a column each, and every alarm
counts. river tells that something changed, the product also since when; so its line stands twice.
"Nothing" finds no change at all: what a method is worth begins there. "Best of grid" are the
options of river's detectors that are best *on these five series*, known only afterwards.

*Made*: how often noise without any change alarms in 720 observations, and how soon a shift of
white noise is told.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy's import

import math
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks._annotated import agreement
from benchmarks.peers import PeerMissingError, ask
from whimbrel_core.profile.watching.series import Change, SeriesSettings, start, update_together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TARGET = 0.52
SEED = 31_415
OBSERVATIONS = 720  # of a series without change; the default ARL
SERIES = 20  # of each kind
SHIFT_AT = 100
USUAL = SeriesSettings()


class Line(NamedTuple):
    """One method on the annotated series; ``f1`` by series."""

    method: str
    f1: dict[str, float]
    target: float | None = None

    @property
    def mean(self) -> float:
        """Mean F1 over the series."""
        return statistics.fmean(self.f1.values())


class Made(NamedTuple):
    """One method on one kind of made series."""

    method: str
    kind: str
    alarms: float
    delay: float | None = None
    missed: int = 0
    misplaced: float | None = None


def watch(rows: Sequence[Sequence[float]], usual: SeriesSettings = USUAL) -> list[Change]:
    """Return what the product's detector finds, with its default setting if nothing is said."""
    states, changes = (start(),) * len(rows[0]), []
    for at, row in enumerate(rows):
        states, change = update_together(states, at, row, usual)
        changes += [] if change is None else [change]
    return changes


def annotated(answer: dict[str, Any]) -> list[Line]:
    """Return all methods' agreement with the annotators."""
    series = answer["series"]
    ours = {name: watch(given["rows"]) for name, given in series.items()}

    def line(method: str, found: dict[str, list[int]], target: float | None = None) -> Line:
        return Line(
            method,
            {n: agreement(series[n]["annotations"], found[n]).f1 for n in series},
            target,
        )

    began = {name: [change.began_at for change in changes] for name, changes in ours.items()}
    told = {name: [change.at for change in changes] for name, changes in ours.items()}
    lines = [
        line("whimbrel, since when", began, TARGET),
        line("whimbrel, when it was told", told),
    ]
    runs = [(run, line(run["detector"], run["found"])) for run in answer["runs"]]
    lines += [
        found._replace(method=f"river {found.method}")
        for run, found in runs
        if not run["options"] and not run["standardised"]
    ]
    for kind in dict.fromkeys(run["detector"] for run, _ in runs):
        best, found = max(
            (pair for pair in runs if pair[0]["detector"] == kind), key=lambda pair: pair[1].mean
        )
        options = ", ".join(f"{name} {value}" for name, value in best["options"].items())
        unit = ", standardised" if best["standardised"] else ""
        lines.append(found._replace(method=f"… {kind}, best of grid ({options}{unit})"))
    return [*lines, line("nothing", {name: [] for name in series})]


def noise_kinds() -> dict[str, Callable[[np.random.Generator, int], Floats]]:
    """Return kinds of series in which nothing changes."""

    def correlated(random: np.random.Generator, n: int, phi: float) -> Floats:
        y = random.normal(size=n + 200)
        for i in range(1, len(y)):
            y[i] += phi * y[i - 1]
        return y[200:]

    return {
        "white noise": lambda random, n: random.normal(size=n),
        "correlated .5": lambda random, n: correlated(random, n, 0.5),
        "correlated .9": lambda random, n: correlated(random, n, 0.9),
        "random walk": lambda random, n: np.cumsum(random.normal(size=n)),
        "trend, 14 sd": lambda random, n: random.normal(size=n) + 0.02 * np.arange(n),
        "day of 24, ±2 sd": lambda random, n: (
            random.normal(size=n) + 2 * np.sin(np.arange(n) * 2 * math.pi / 24)
        ),
        "white and slow (.9)": lambda random, n: (
            random.normal(size=n) + correlated(random, n, 0.9) / 2
        ),
        "Poisson, mean 3": lambda random, n: random.poisson(3, size=n).astype(np.float64),
        "Student's t, 4": lambda random, n: random.standard_t(4, size=n),
        "lognormal, sd .5": lambda random, n: np.exp(0.5 * random.normal(size=n)),
    }


def made_series() -> dict[str, Floats]:
    """Return (SERIES, n) of every kind, without a change and with one at `SHIFT_AT`."""
    found = {}
    for number, (kind, make) in enumerate(noise_kinds().items()):
        random = np.random.default_rng([SEED, number])
        found[kind] = np.stack([make(random, OBSERVATIONS) for _ in range(SERIES)])
    for sd in (1.0, 2.0, 3.0, 5.0):
        random = np.random.default_rng([SEED, 100 + int(sd)])
        shifted = random.normal(size=(SERIES, 2 * SHIFT_AT))
        shifted[:, SHIFT_AT:] += sd
        found[f"+{sd:g} sd"] = shifted
    return found


def made(answer: dict[str, dict[str, list[list[int]]]], series: dict[str, Floats]) -> list[Made]:
    """Return what alarms, of all methods, by kind; ``answer``: alarms by detector and kind."""
    lines = []
    for kind, many in series.items():
        lists = [one[:, np.newaxis].tolist() for one in many]
        ours = [watch(one) for one in lists]
        told = {"whimbrel": [[change.at for change in changes] for changes in ours]}
        told["trends=False"] = [
            [change.at for change in watch(one, SeriesSettings(trends=False))] for one in lists
        ]
        told |= {f"river {name}": kinds[kind] for name, kinds in answer.items()}
        for method, alarms in told.items():
            line = Made(method, kind, sum(map(len, alarms)) / SERIES)
            if kind.startswith("+"):
                delays = [
                    next((at - SHIFT_AT for at in one if at >= SHIFT_AT), None) for one in alarms
                ]
                kept = [math.inf if delay is None else delay for delay in delays]
                line = line._replace(
                    alarms=sum(at < SHIFT_AT for one in alarms for at in one) / SERIES,
                    delay=statistics.median(kept),
                    missed=delays.count(None),
                )
            if kind.startswith("+") and method == "whimbrel":
                off = [
                    min(abs(change.began_at - SHIFT_AT) for change in changes)
                    for changes in ours
                    if changes
                ]
                line = line._replace(misplaced=statistics.median(off))
            lines.append(line)
    return lines


def table(lines: list[Line]) -> str:
    """Return F1 by method and series, worst last."""
    names = list(lines[0].f1)
    out = [f"{'F1, margin 5':<34}{'mean':>7}{'target':>8}" + "".join(f"{n:>19}" for n in names)]
    for line in lines:
        target = "" if line.target is None else f"> {line.target:g}"
        short = line.method if len(line.method) <= 32 else line.method.split(" (")[0]
        out.append(
            f"{short:<34}{line.mean:>7.3f}{target:>8}"
            + "".join(f"{line.f1[name]:>19.3f}" for name in names)
        )
        if short != line.method:
            out.append(f"    ({line.method.split(' (', 1)[1]}")
    return "\n".join(out)


def made_table(lines: list[Made]) -> str:
    """Return false alarms per series, and delays, kinds below each other, methods side by side."""
    methods = list(dict.fromkeys(line.method for line in lines))
    out = [f"{'false alarms in 720 observations':<34}" + "".join(f"{m:>19}" for m in methods)]
    for kind in dict.fromkeys(line.kind for line in lines):
        row = [line for line in lines if line.kind == kind]
        if kind == "+1 sd":
            out.append(f"a shift after {SHIFT_AT}: median delay (missed of {SERIES}; false before)")
        cells = [
            f"{line.alarms:.2f}"
            if line.delay is None
            else f"{line.delay:g} ({line.missed}; {line.alarms:.2f})"
            for line in row
        ]
        off = row[0].misplaced
        note = "" if off is None else f"   dated {off:g} off"
        out.append(f"{kind:<34}" + "".join(f"{cell:>19}" for cell in cells) + note)
    return "\n".join(out)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    chosen = parser.parse_args()
    series = made_series()
    try:
        answer = ask(
            "change_points",
            {"kinds": list(series)},
            **{f"made{number}": many for number, many in enumerate(series.values())},
        )
    except PeerMissingError as error:
        raise SystemExit(f"error: {error}") from None
    lines, others = annotated(answer), made(answer["made"], series)
    if chosen.json:
        print(json.dumps([[line._asdict() for line in part] for part in (lines, others)]))
        return
    print(f"river {answer['version']}\n\n{table(lines)}\n\n{made_table(others)}")


if __name__ == "__main__":
    main()
