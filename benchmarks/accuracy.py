"""How exact distances from counts are: against SciPy on the raw rows, beside whylogs' sketches.

Reference rows make a baseline; each device counts its own rows, encodes its window, and what was
decoded is merged over 1, 10, 100 and 1,000 devices. PSI and JS on deciles, KS and W1 of the merged
counts are compared with those of the pooled rows. Run it with ``python -m benchmarks.accuracy``;
``--seed`` gives other rows.

Beyond one standard deviation, the error of W1 is a share of it. Shifts that multiply spread or
unit carry rows far beyond the reference on both sides, where cells are wide.

whylogs' sketches (its default, k = 1024) are merged likewise, in the same run; their PSI is without
the error of our own smoothing, on the deciles of its own sketch of the reference.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.peers import PeerMissingError, ask
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.drift.divergences import js, psi_debiased
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.window import decode, encode, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

    Floats = NDArray[Any]
    Draw = Callable[[np.random.Generator, int], Floats]
    Shift = Callable[[np.random.Generator, Floats, Floats], Floats]

REFERENCE_ROWS = 20_000
DEVICE_ROWS = 3600  # of one window
MERGES = (1, 10, 100, 1000)
FIGURES = ("PSI", "JS", "KS", "W1/sd")
TARGETS = (1e-9, 1e-9, 0.0035, 0.005)


def _bimodal(rng: np.random.Generator, n: int) -> Floats:
    return np.where(rng.random(n) < 0.35, rng.normal(-2, 0.5, n), rng.normal(2, 0.8, n))


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(3, 2, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 0.8, n),
    "bimodal": _bimodal,
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "Student t, 3": lambda rng, n: rng.standard_t(3, n),
    "counts, Poisson(6)": lambda rng, n: rng.poisson(6, n).astype(float),
    "rounded to .1": lambda rng, n: np.round(rng.normal(20, 4, n), 1),
}

GRIDS = {"counts, Poisson(6)": 0, "rounded to .1": 1}  # decimals

# A shift changes rows x of a device; r are the reference's rows.
SHIFTS: dict[str, Shift] = {
    "none": lambda _, x, __: x,
    "+.1 sd": lambda _, x, r: x + 0.1 * r.std(),
    "+.3 sd": lambda _, x, r: x + 0.3 * r.std(),
    "-.5 sd": lambda _, x, r: x - 0.5 * r.std(),
    "+1 sd": lambda _, x, r: x + r.std(),
    "+3 sd": lambda _, x, r: x + 3 * r.std(),
    "scale .7": lambda _, x, r: r.mean() + 0.7 * (x - r.mean()),
    "scale 1.5": lambda _, x, r: r.mean() + 1.5 * (x - r.mean()),
    "scale 3": lambda _, x, r: r.mean() + 3 * (x - r.mean()),
    "5 % at +6 sd": lambda g, x, r: np.where(g.random(x.shape) < 0.05, x + 6 * r.std(), x),
    "20 % stuck": lambda g, x, r: np.where(g.random(x.shape) < 0.2, np.median(r), x),
    "cut at q90": lambda _, x, r: np.minimum(x, np.quantile(r, 0.9)),
    "unit: × 10": lambda _, x, __: 10 * x,
}  # fmt: skip

FAR = ("scale 3", "unit: × 10")


class Error(NamedTuple):
    """The errors of one column of one shift after merging."""

    devices: int
    shift: str
    distribution: str
    ours: tuple[float, ...]  # as in FIGURES
    theirs: tuple[float, ...] | None


def reference_rows(seed: int) -> Floats:
    """Return reference rows (n, D)."""
    rng = np.random.default_rng([seed, 0])
    draws = DISTRIBUTIONS.values()
    return np.column_stack([draw(rng, REFERENCE_ROWS) for draw in draws]).astype(np.float32)


def shifted_rows(seed: int, shift: str, reference: Floats) -> Floats:
    """Return the rows of all devices, one after the other, under a shift (devices · rows, D)."""
    rng = np.random.default_rng([seed, 1, *map(ord, shift)])
    count = DEVICE_ROWS * MERGES[-1]
    rows = np.empty((count, len(DISTRIBUTIONS)), np.float32)
    for d, (name, draw) in enumerate(DISTRIBUTIONS.items()):
        moved = SHIFTS[shift](rng, draw(rng, count), reference[:, d].astype(float))
        # What is counted or rounded stays so when it has moved.
        rows[:, d] = np.round(moved, GRIDS[name]) if name in GRIDS else moved
    return rows


def reference_of(rows: Floats) -> Baseline:
    """Return the baseline of reference ``rows``."""
    return build(
        [ColumnSpec(name, "input", "x", i, rows[:, i]) for i, name in enumerate(DISTRIBUTIONS)],
        task="regression",
    )


def exact(reference: Floats, rows: Floats, *, discrete: bool) -> tuple[float, ...]:
    """Return the four distances of raw rows, (n,) and (m,)."""
    reference, rows = np.sort(reference.astype(float)), np.sort(rows.astype(float))
    if discrete:  # every value is a bin of its own here, as far as they are frequent; see `_bins`
        edges = _value_edges(reference)
    else:
        edges = np.unique(np.quantile(reference, np.arange(1, 10) / 10, method="inverted_cdf"))
    p, q = (
        np.bincount(edges.searchsorted(x, "left"), minlength=len(edges) + 1)
        for x in (reference, rows)
    )
    return (
        max(psi_debiased(p, q), 0.0),
        js(p, q),
        float(stats.ks_2samp(reference, rows, method="asymp").statistic),
        float(stats.wasserstein_distance(reference, rows) / reference.std()),
    )


def _value_edges(reference: Floats) -> Floats:
    """Return the upper ends of runs of values that hold 5 % of the reference each."""
    values, counts = np.unique(reference, return_counts=True)
    edges, held = [], 0
    for value, count in zip(values, counts, strict=True):
        held += count
        if held >= len(reference) * 0.05:
            edges.append(value)
            held = 0
    return np.array(edges[:-1] if held < len(reference) * 0.05 else edges)


def errors(seed: int, *, peers: bool = True) -> list[Error]:
    """Return every error."""
    reference = reference_rows(seed)
    baseline = reference_of(reference)
    found = []
    for shift in SHIFTS:
        rows = shifted_rows(seed, shift, reference)
        theirs = _sketched(reference, rows) if peers else {}
        found += _of_shift(baseline, reference, rows, shift, theirs)
    return found


def _sketched(reference: Floats, rows: Floats) -> dict[str, Any]:
    """Return whylogs' distances by number of devices; empty where it is not installed."""
    try:
        request = {"merges": MERGES, "rows": DEVICE_ROWS}
        answer: dict[str, Any] = ask("sketches", request, reference=reference, window=rows)
    except PeerMissingError as error:
        print(error, file=sys.stderr)
        return {}
    return answer


def _of_shift(
    baseline: Baseline, reference: Floats, rows: Floats, shift: str, theirs: dict[str, Any]
) -> list[Error]:
    judge = Judge(baseline)
    merged: Window | None = None
    found = []
    for device in range(MERGES[-1]):
        accumulator = Accumulator(baseline)
        accumulator.update({"x": rows[device * DEVICE_ROWS : (device + 1) * DEVICE_ROWS]})
        received = decode(encode(accumulator.window(0, 1)))
        merged = received if merged is None else merge(merged, received)
        if device + 1 not in MERGES:
            continue
        for d, (name, drift) in enumerate(zip(DISTRIBUTIONS, judge.judge(merged), strict=True)):
            pooled = rows[: (device + 1) * DEVICE_ROWS, d]
            discrete = baseline.layout.features[d].kind == "discrete"
            truth = exact(reference[:, d], pooled, discrete=discrete)
            said = (drift.psi, drift.js, drift.ks, drift.w1_sd)
            sketch = theirs.get(str(device + 1))
            found.append(
                Error(
                    device + 1, shift, name,
                    _errors([x or 0.0 for x in said], truth),
                    _errors(sketch[d], truth) if sketch else None,
                )
            )  # fmt: skip
    return found


def _errors(said: Sequence[float], truth: Sequence[float]) -> tuple[float, ...]:
    """Return absolute errors; of a W1 above one sd, the share of it."""
    return tuple(
        abs(x - y) / (max(y, 1.0) if figure == "W1/sd" else 1.0)
        for figure, x, y in zip(FIGURES, said, truth, strict=True)
    )


def table(found: list[Error], seed: int) -> str:
    """Return the largest errors, by number of devices, distribution and shift."""
    title = f"{len(SHIFTS)} shifts × {len(DISTRIBUTIONS)} distributions, seed {seed}: "
    lines = [title + "largest error, ours and (whylogs, k = 1024)"]
    keys: dict[str, Callable[[Error], str]] = {
        "devices": lambda e: f"{e.devices:,}",
        "distribution": lambda e: e.distribution,
        "shift": lambda e: e.shift,
    }
    for heading, key in keys.items():
        lines.append(f"\n{'by ' + heading:<30}" + "".join(f"{name:>22}" for name in FIGURES))
        groups: dict[str, list[Error]] = {}
        for error in found:
            groups.setdefault(key(error), []).append(error)
        lines += [_line(name, group) for name, group in groups.items()]
    near = [error for error in found if error.shift not in FAR]
    lines += ["", _line("all", found), _line(f"without {', '.join(FAR)}", near)]
    lines.append(f"{'target':<30}" + "".join(f"{target:>11.2g}{'':>11}" for target in TARGETS))
    return "\n".join(lines)


def _line(name: str, group: list[Error]) -> str:
    worst = np.max([error.ours for error in group], axis=0)
    theirs = [error.theirs for error in group if error.theirs is not None]
    others = np.max(theirs, axis=0) if theirs else None
    text = f"{name:<30}"
    for i in range(len(FIGURES)):
        other = "" if others is None else f"({others[i]:.4f})"
        text += f"{worst[i]:>11.2g}{other:>11}"
    return text


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--without-peers", action="store_true")
    chosen = parser.parse_args()
    print(table(errors(chosen.seed, peers=not chosen.without_peers), chosen.seed))


if __name__ == "__main__":
    main()
