"""Distributions: features of a baseline as drawings, alone, small, or one over another."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from whimbrel_core.drawing import bars, canvas, histogram, written
from whimbrel_core.profile.building.projection import project
from whimbrel_core.profile.feature import MAX_CELLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.baseline import Baseline, FeatureStats
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.window import FeatureCounts

WORDS = 8  # of a vocabulary that are drawn
_WIDTH, _HEIGHT = 350, 132
_UNKNOWN = 0.97  # share of words that are rarer than those that are counted apart
_ROUNDING = 1e-9  # a rest below it is none


class Profiled(NamedTuple):
    """One feature with all that the baseline knows of it."""

    feature: Feature
    stats: FeatureStats
    counts: FeatureCounts

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each cell among the values that are in one."""
        return shares(self.counts)


def profiled(baseline: Baseline) -> list[Profiled]:
    """Return the features of a baseline."""
    features, counts = baseline.layout.features, baseline.window.features
    return [Profiled(*one) for one in zip(features, baseline.stats, counts, strict=True)]


def spark(one: Profiled) -> str:
    """Return the distribution as a small drawing."""
    feature = one.feature
    shown = histogram.bars(feature.kind, feature.cell_names(), feature.edges, one.shares)
    title = f"Distribution of {feature.name}"
    return histogram.spark(_without_empty_other(shown, feature.kind), title=title)


def drawing(one: Profiled) -> str:
    """Return the distribution of a feature."""
    return _drawn(one.feature, one.shares)


def overlaid(old: Profiled, new: Profiled) -> str:
    """Return the distribution of a feature in two baselines; "" when they cannot be told as one."""
    if old.feature.kind == new.feature.kind == "numeric":
        # Each is coarse where the other has most of its values: cut where either is.
        feature = msgspec.structs.replace(old.feature, edges=_common(old.feature, new.feature))
        both = [project(one.counts, one.feature, one.stats, feature) for one in (old, new)]
        return _drawn(feature, *(shares(one) for one in both if one is not None))
    after = project(new.counts, new.feature, new.stats, old.feature)
    if after is not None:
        return _drawn(old.feature, old.shares, shares(after))
    before = project(old.counts, old.feature, old.stats, new.feature)
    return "" if before is None else _drawn(new.feature, shares(before), new.shares)


def _common(old: Feature, new: Feature) -> tuple[float, ...]:
    edges = sorted({*old.edges, *new.edges})
    every = -(-len(edges) // (MAX_CELLS - 2)) or 1
    return tuple(sorted({*edges[::every], *edges[-1:]}))


def _drawn(feature: Feature, *sides: tuple[float, ...]) -> str:
    names = feature.cell_names()
    return compared(feature.name, feature.kind, names, feature.edges, *sides, unit=feature.unit)


def compared(
    name: str,
    kind: str,
    cells: Sequence[str],
    edges: Sequence[float],
    *sides: Sequence[float],
    unit: str | None = None,
    width: int = _WIDTH,
    height: int = _HEIGHT,
) -> str:
    """Return a distribution: the reference's shares per cell and, if there are, the current ones.

    Args:
        name: of the feature.
        kind: of it: "numeric", "discrete" or "categorical".
        cells: names of its cells, in order.
        edges: between them, of a numeric feature.
        sides: shares per cell.
        unit: of the numbers; times are written as days.
        width: of the drawing.
        height: of the drawing; words take what they need.
    """
    title = f"Distribution of {name}"
    if kind == "categorical" and len(cells) > 2:  # noqa: PLR2004 - a word and the rest say nothing
        if all(side[-1] > _UNKNOWN for side in sides):
            return ""  # ids or free text: the words that are counted apart say nothing
        return bars.named(words(cells, *sides), title=title, width=width)
    write = written.day if unit == written.DAYS else canvas.tick
    shown = histogram.bars(kind, cells, edges, *sides, write=write)
    return histogram.draw(
        _without_empty_other(shown, kind), title=title, width=width, height=height
    )


def words(
    cells: Sequence[str], shares: Sequence[float], current: Sequence[float] | None = None
) -> list[bars.Named]:
    """Return the most frequent words of a vocabulary, and all others in one bar.

    With a current side, words that grew most are among those that are named.
    """
    vocabulary = cells[:-1]
    now: list[float | None] = [None] * len(cells) if current is None else list(current)
    kept = list(range(min(WORDS, len(vocabulary))))
    if current is not None and len(vocabulary) > WORDS:
        moved = sorted(range(len(vocabulary)), key=lambda i: -max(shares[i], current[i]))
        kept = sorted(moved[:WORDS])
    shown = [bars.Named(vocabulary[i], shares[i], now[i]) for i in kept]
    rest = max(1.0 - sum(shares[i] for i in kept), 0.0) if any(shares) else 0.0
    rest_now = (
        None
        if current is None
        else max(1.0 - sum(current[i] for i in kept), 0.0)
        if any(current)
        else 0.0
    )
    more = len(vocabulary) - len(kept)
    if rest > _ROUNDING or (rest_now or 0.0) > _ROUNDING:
        name = f"{more} other words" if more > 0 else "other"
        shown.append(bars.Named(name, rest, rest_now, rest=True))
    return shown


def shares(counts: FeatureCounts) -> tuple[float, ...]:
    """Return the share of each cell among the values that are in one."""
    total = max(sum(counts.cells), 1)
    return tuple(n / total for n in counts.cells)


def _without_empty_other(shown: histogram.Bars, kind: str) -> histogram.Bars:
    """Leave out the cell of other values where no value is other."""
    if kind == "numeric" or any(side[-1] for side in shown.sides):
        return shown
    return histogram.Bars(shown.names[:-1], tuple(side[:-1] for side in shown.sides))
