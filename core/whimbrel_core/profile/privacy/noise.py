"""Noise on the counts that leave a device: discrete Laplace, made consistent again.

Each count of a feature gets noise k with P(k) ∝ e^(−ε|k|) (the geometric mechanism; Ghosh,
Roughgarden, Sundararajan 2009). Then nobody who sees a window can tell whether one row more was in
it: what is sent is at most e^ε times as likely with it as without, *for each feature by itself*;
over F features that a row is counted in, e^(Fε). The number of rows is sent as it is.

Noisy counts may be negative and do not add up. They are made counts again by what is best in least
squares under these constraints (Hay, Rastogi, Miklau, Suciu: "Boosting the accuracy of
differentially private histograms through consistency", 2010): their running sum is projected onto
sequences that never fall, from nothing to the number of rows. A cell in which the reference has
nothing keeps only more than noise alone makes in one of a thousand: a single made-up row far
outside would move a mean. All of it looks at nothing but noisy counts and the public baseline, so
it reveals nothing more, and it moves mass only between neighbours, so that shares of deciles stay
unbiased.

What single values would tell is left out: extremes; sums are those of the noisy counts. Counts of
requests, latencies and labels are exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counts import FeatureCounts, SliceCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from whimbrel_core.profile.baseline import Baseline, FeatureStats
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.window import Window

    Uniform = Callable[[], float]

MIN_EPSILON = 0.01  # noise of ± 140 rows a count


def variance(epsilon: float) -> float:
    """Return the variance of the noise on one count; 0 for ``epsilon`` 0, which is no noise."""
    if not epsilon:
        return 0.0
    q = math.exp(-epsilon)
    return 2 * q / (1 - q) ** 2


def noised(window: Window, baseline: Baseline, epsilon: float, uniform: Uniform) -> Window:
    """Return ``window`` as it may leave the device.

    Args:
        window: exact counts.
        baseline: of its layout; gives cells their means.
        epsilon: at least `MIN_EPSILON`; smaller is more noise.
        uniform: returns numbers of [0, 1) that nobody can foretell: `random.SystemRandom().random`.

    Raises:
        ProfileError: no such ``epsilon``.
    """
    if not (math.isfinite(epsilon) and epsilon >= MIN_EPSILON):
        raise ProfileError(f"noise needs an epsilon of at least {MIN_EPSILON:g}, got {epsilon!r}")
    if not window.rows:
        return window

    rows, usual, noise = window.rows, baseline.window, _Noise(epsilon, uniform)
    features = tuple(
        _feature(counts, reference, feature, stats, rows, noise)
        for counts, reference, feature, stats in zip(
            window.features, usual.features, baseline.layout.features, baseline.stats, strict=True
        )
    )
    scores = window.score_cells
    return msgspec.structs.replace(
        window,
        features=features,
        score_cells=None if scores is None else _part(scores, usual.score_cells, rows, noise),
        duplicates=noise.within(window.duplicates, rows),
        slices=tuple(
            _slice(one, reference, rows, noise)
            for one, reference in zip(window.slices, usual.slices, strict=True)
        ),
    )


class _Noise:
    """Discrete Laplace noise of one ``epsilon``."""

    def __init__(self, epsilon: float, uniform: Uniform) -> None:
        self._epsilon, self._uniform = epsilon, uniform
        self.rare = math.log(1000) / epsilon  # noise alone is above it once in two thousand

    def draw(self) -> int:
        """Return one noise: the difference of two geometric numbers."""
        return self._geometric() - self._geometric()

    def within(self, count: int, rows: int) -> int:
        """Return a noisy count from 0 to ``rows``."""
        return min(max(count + self.draw(), 0), rows)

    def _geometric(self) -> int:
        """Return how often a coin of probability e^−ε comes up before it first does not."""
        return int(math.log(1.0 - self._uniform()) / -self._epsilon)


def _feature(  # noqa: PLR0917 - a feature, as it is and as it was
    counts: FeatureCounts,
    reference: FeatureCounts,
    feature: Feature,
    stats: FeatureStats,
    rows: int,
    noise: _Noise,
) -> FeatureCounts:
    nulls, pos_inf, neg_inf, *cells = _histogram(_all(counts), _all(reference), rows, noise)
    total = squares = 0.0
    for count, mean in zip(cells, stats.cell_means, strict=False):
        total += count * (mean - feature.centre)
        squares += count * (mean - feature.centre) ** 2
    return FeatureCounts(
        cells=tuple(cells),
        nulls=nulls,
        pos_inf=pos_inf,
        neg_inf=neg_inf,
        # Multiples of the layout's quanta, so that sums stay exact however they are merged.
        total=round(total / feature.total_quantum) * feature.total_quantum,
        squares=round(squares / feature.squares_quantum) * feature.squares_quantum,
        repeats=noise.within(counts.repeats, rows),
    )


def _all(counts: FeatureCounts) -> tuple[int, ...]:
    return (counts.nulls, counts.pos_inf, counts.neg_inf, *counts.cells)


def _slice(one: SliceCounts, reference: SliceCounts, rows: int, noise: _Noise) -> SliceCounts:
    inside = noise.within(one.rows, rows)
    return SliceCounts(
        rows=inside,
        cells=tuple(
            _part(cells, usual, inside, noise)
            for cells, usual in zip(one.cells, reference.cells, strict=True)
        ),
        scores=None if one.scores is None else _part(one.scores, reference.scores, inside, noise),
        quality=one.quality,
    )


def _part(
    counts: Sequence[int], reference: Sequence[int] | None, rows: int, noise: _Noise
) -> tuple[int, ...]:
    """Return noisy counts that are ``rows`` together at most: the rest is a count of its own."""
    rest = max(rows - sum(counts), 0)
    usual = (*(reference or counts), 0)
    return _histogram((*counts, rest), usual, rows, noise)[:-1]


def _histogram(
    counts: Sequence[int], reference: Sequence[int], rows: int, noise: _Noise
) -> tuple[int, ...]:
    """Return noisy counts of at least 0 that are ``rows`` together."""
    noisy: list[float] = [count + noise.draw() for count in counts]
    known = sum(reference)
    for index, usual in enumerate(reference):
        if not usual and noisy[index] <= noise.rare:
            noisy[index] = 0
    # What is too much or too little is spread as the reference is, before the projection.
    excess = (sum(noisy) - rows) / known if known else 0.0
    running, so_far = [], 0.0
    for count, usual in zip(noisy, reference, strict=True):
        so_far += count - excess * usual
        running.append(so_far)
    found, before = [], 0
    for height in _rising(running):
        now = max(before, min(rows, round(height)))
        found.append(now - before)
        before = now
    found[max(range(len(found)), key=found.__getitem__)] += rows - before
    return tuple(found)


def _rising(numbers: Sequence[float]) -> list[float]:
    """Return the sequence that never falls and is nearest in least squares (pooled neighbours)."""
    blocks: list[tuple[float, int]] = []
    for number in numbers:
        mean, size = number, 1
        while blocks and blocks[-1][0] >= mean:
            before, many = blocks.pop()
            mean = (before * many + mean * size) / (many + size)
            size += many
        blocks.append((mean, size))
    return [mean for mean, size in blocks for _ in range(size)]
