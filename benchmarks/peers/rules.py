"""The default drift rules of evidently and whylogs, fast enough for a simulation of a fleet.

Written from what the libraries do (evidently 0.7.23, whylogs 1.6.4), for columns of numbers with
more than five different values, and many windows of equal length at once:

- evidently, more than 1,000 reference rows: Wasserstein-1 over the reference's standard deviation,
  drifted from .1 on; else Kolmogorov–Smirnov, drifted up to p = .05. A data set has drifted when at
  least half of its columns have.
- whylogs: Kolmogorov–Smirnov at 100 quantiles of either side, "DRIFT" below p = .05.

Both libraries are asked for their own verdicts on random windows by ``python -m
benchmarks.peers.rules``. evidently's are equal. whylogs' are equal up to about 1,000 rows a side;
beyond, it looks at a random sketch of the rows where these rules see all of them, so that
verdicts near the threshold differ by luck.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.peers import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

W1_LIMIT = 0.1
P_LIMIT = 0.05
EVIDENTLY_SMALL = 1000  # reference rows up to which it tests instead of measuring
DATASET_SHARE = 0.5
_QUANTILES = np.linspace(0, 1, 100)
_EXACT = 10_000  # rows of either side up to which SciPy uses the exact law


class EvidentlyRule:
    """evidently's default verdicts on windows of one column.

    Args:
        reference: (n,) rows.
    """

    def __init__(self, reference: Floats) -> None:
        self.reference = np.sort(np.asarray(reference, float))
        self.norm = max(float(self.reference.std()), 0.001)

    def distances(self, windows: Floats) -> Floats:
        """Return what is compared with a limit: W1 / sd, or D for a small reference.

        Args:
            windows: (N, m) rows of N windows.
        """
        ordered = np.sort(np.asarray(windows, float), axis=-1)
        if len(self.reference) <= EVIDENTLY_SMALL:
            return _ks(self.reference, ordered)
        ours, theirs, weights = _coupling(len(self.reference), ordered.shape[-1])
        at = self.reference[ours]
        found: Floats = np.array([np.abs(row[theirs] - at) @ weights for row in ordered])
        return found / self.norm

    def drifted(self, windows: Floats) -> Flags:
        """Return the verdict of each window (N,) of ``windows`` (N, m)."""
        distances = self.distances(windows)
        if len(self.reference) <= EVIDENTLY_SMALL:
            limit = two_sample_limit(len(self.reference), windows.shape[-1]) - 1e-12
        else:
            limit = W1_LIMIT
        verdict: Flags = distances >= limit
        return verdict


class WhylogsRule:
    """whylogs' default verdicts on windows of one column, without the error of its sketches.

    Args:
        reference: (n,) rows.
    """

    def __init__(self, reference: Floats) -> None:
        self.reference = np.sort(np.asarray(reference, float))
        self._points = self.reference[_places(len(self.reference))]
        self._shares = self.reference.searchsorted(self._points, "left") / len(self.reference)

    def distances(self, windows: Floats) -> Floats:
        """Return D (N,) of ``windows`` (N, m), as whylogs measures it."""
        ordered = np.sort(np.asarray(windows, float), axis=-1)
        m = ordered.shape[-1]
        places = _places(m)
        found = np.empty(len(ordered))
        for index, row in enumerate(ordered):
            points = row[places]
            at_theirs = row.searchsorted(points, "left") / m
            at_theirs -= self.reference.searchsorted(points, "left") / len(self.reference)
            at_ours = row.searchsorted(self._points, "left") / m - self._shares
            found[index] = max(np.abs(at_theirs).max(), np.abs(at_ours).max())
        return found

    def drifted(self, windows: Floats) -> Flags:
        """Return the verdict of each window (N,) of ``windows`` (N, m)."""
        limit = one_sample_limit(len(self.reference), windows.shape[-1])
        verdict: Flags = self.distances(windows) > limit
        return verdict


def evidently_dataset(drifted: Flags) -> Flags:
    """Return evidently's verdict (N,) on whole windows from those on their columns (N, F)."""
    verdict: Flags = drifted.mean(axis=-1) >= DATASET_SHARE
    return verdict


@lru_cache
def two_sample_limit(n: int, m: int) -> float:
    """Return the least D with p ≤ .05 in SciPy's two-sample test of ``n`` and ``m`` rows.

    >>> round(two_sample_limit(100, 100), 6)
    0.2
    """
    from scipy.stats import ks_2samp, kstwo

    if max(n, m) > _EXACT:
        return float(kstwo.isf(P_LIMIT, np.round(n * m / (n + m))))
    step = math.lcm(n, m)
    heights = np.subtract.outer(np.arange(n + 1) * (step // n), np.arange(m + 1) * (step // m))
    reached, places = np.unique(np.abs(heights), return_index=True)
    low, high = 0, len(reached) - 1
    while low < high:
        middle = (low + high) // 2
        i, j = divmod(int(places[middle]), m + 1)  # so many rows of either side are below the rest
        p_value = ks_2samp(np.arange(n) >= i, np.arange(m) >= j).pvalue
        low, high = (low, middle) if p_value <= P_LIMIT else (middle + 1, high)
    return float(reached[low] / step)


@lru_cache
def one_sample_limit(n: int, m: int) -> float:
    """Return D above which whylogs' p value is below .05: that of one sample of nm / (n + m)."""
    from scipy.stats import kstwo

    return float(kstwo.isf(P_LIMIT, np.round(n * m / (n + m))))


def _places(n: int) -> NDArray[np.int64]:
    """Return where among ``n`` ordered rows the sketch finds its 100 quantiles."""
    places: NDArray[np.int64] = np.minimum((_QUANTILES * n).astype(np.int64), n - 1)
    return places


def _ks(reference: Floats, ordered: Floats) -> Floats:
    """Return the exact two-sample D (N,) of ``ordered`` windows (N, m), ascending."""
    n, m = len(reference), ordered.shape[-1]
    found = np.empty(len(ordered))
    for index, row in enumerate(ordered):
        both = np.concatenate([reference, row])
        gap = reference.searchsorted(both, "right") / n - row.searchsorted(both, "right") / m
        found[index] = np.abs(gap).max()
    return found


@lru_cache(maxsize=8)
def _coupling(n: int, m: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return which of ``n`` and of ``m`` ordered rows are coupled, and by how much.

    Wasserstein-1 is the area between the two quantile functions, which are constant between the
    multiples of 1/n and 1/m.
    """
    step = math.lcm(n, m)
    cuts = np.union1d(np.arange(n + 1) * (step // n), np.arange(m + 1) * (step // m))
    starts = cuts[:-1]
    return starts // (step // n), starts // (step // m), np.diff(cuts) / step


class Agreement(NamedTuple):
    """How many verdicts of a library and of its rule here are equal."""

    library: str
    reference: int
    rows: int
    windows: int
    equal: int
    theirs: int
    ours: int
    apart: float  # largest difference of what is compared with a limit


def agreement(n: int, m: int, seed: int, columns: int = 60) -> list[Agreement]:
    """Return how the rules agree with the libraries on random windows of ``m`` rows.

    Shifts are spread around where verdicts change, and shapes differ from column to column.
    """
    rng = np.random.default_rng(seed)
    shapes: list[Callable[[int], Floats]] = [
        lambda size: rng.normal(size=size),
        lambda size: rng.lognormal(sigma=0.8, size=size),
        lambda size: rng.uniform(size=size),
        lambda size: rng.integers(0, 40, size).astype(float),  # ties
        lambda size: rng.standard_t(3, size=size),
    ]
    reference, window = np.empty((n, columns)), np.empty((m, columns))
    for column in range(columns):
        draw = shapes[column % len(shapes)]
        reference[:, column], window[:, column] = draw(n), draw(m)
        shift = rng.normal() * reference[:, column].std() * (0.1 + 1 / math.sqrt(min(n, m)))
        window[:, column] += round(shift) if column % len(shapes) == 3 else shift
    theirs = ask("verdicts", None, reference=reference, window=window)
    lines = []
    for library, rule in (("evidently", EvidentlyRule), ("whylogs", WhylogsRule)):
        rules = [rule(reference[:, i]) for i in range(columns)]
        verdicts = np.array([rules[i].drifted(window[np.newaxis, :, i])[0] for i in range(columns)])
        distances = np.array(
            [rules[i].distances(window[np.newaxis, :, i])[0] for i in range(columns)]
        )
        expected = np.array(theirs[f"{library}_drift"])
        if library == "whylogs":
            said = np.array(theirs["whylogs_statistic"])
        elif n > EVIDENTLY_SMALL:
            said = np.array(theirs["evidently"])
        else:  # a p value, where the rule has a distance
            said = distances
        lines.append(
            Agreement(
                library,
                n,
                m,
                columns,
                int((verdicts == expected).sum()),
                int(expected.sum()),
                int(verdicts.sum()),
                float(np.abs(distances - said).max()),
            )
        )
    return lines


def main() -> None:
    """Ask the libraries, and print how many verdicts are equal."""
    print(
        f"{'library':<12}{'reference':>10}{'rows':>8}{'windows':>9}{'equal':>7}"
        f"{'they: drift':>13}{'we: drift':>11}{'apart':>12}"
    )
    sizes = [(500, 200), (1000, 700), (800, 3600), (1001, 300), (5000, 1000), (20_000, 3600)]
    for seed, (n, m) in enumerate(sizes):
        for line in agreement(n, m, seed):
            print(
                f"{line.library:<12}{line.reference:>10,}{line.rows:>8,}{line.windows:>9}"
                f"{line.equal:>7}{line.theirs:>13}{line.ours:>11}{line.apart:>12.2g}"
            )


if __name__ == "__main__":
    main()
