"""Shifts: how the features of one baseline lie to those of another, judged as drift is.

The newer baseline is taken as a window of the older one: same distances, same thresholds, same
words. What is judged here is the reference data of two packings, not a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile.baseline import Baseline, FeatureStats
from whimbrel_core.profile.building.projection import project
from whimbrel_core.profile.descriptors import Embedding
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.profile.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.drift.drifts import FeatureDrift
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.layout import Layout

_DEFAULT = Thresholds()


def shifts(
    old: Baseline, new: Baseline, thresholds: Thresholds = _DEFAULT
) -> tuple[FeatureDrift, ...]:
    """Return the drift from ``old`` to ``new`` of every feature that both have, in old's order.

    A feature that is words in one and numbers in the other is left out, and so are distances to
    centroids that are others now.
    """
    apart = _meaning_else(old.layout, new.layout)
    after = {(f.role, f.name): i for i, f in enumerate(new.layout.features)}
    pairs = [
        (i, after[f.role, f.name])
        for i, f in enumerate(old.layout.features)
        if (f.role, f.name) in after and f.name not in apart
    ]
    if not (old.window.rows and new.window.rows):
        return ()
    forward = _judged(old, new, pairs, thresholds)
    # Intervals cannot be told as single values, but single values as intervals.
    rest = [(b, a) for a, b in pairs if old.layout.features[a].name not in forward]
    backward = _judged(new, old, rest, thresholds)
    for a, b in pairs:
        name = old.layout.features[a].name
        if name in backward:
            forward[name] = _turned(backward[name], new, b, old.stats[a])
    return tuple(
        forward[old.layout.features[a].name]
        for a, _ in pairs
        if old.layout.features[a].name in forward
    )


def _meaning_else(old: Layout, new: Layout) -> set[str]:
    """Return features of ``old`` whose numbers mean something else in ``new``."""
    now = {one.name: one for one in new.descriptors}
    moved = {
        one.name
        for one in old.descriptors
        if isinstance(one, Embedding) and now.get(one.name) != one
    }
    # The norm, column 0, is of the vector alone.
    return {f.name for f in old.features if f.tensor in moved and f.column > 0}


def _judged(
    base: Baseline, other: Baseline, pairs: Sequence[tuple[int, int]], thresholds: Thresholds
) -> dict[str, FeatureDrift]:
    """Return the drift from ``base`` to ``other`` by name, of pairs that can be told in its cells."""
    features: list[Feature] = []
    stats: list[FeatureStats] = []
    own: list[FeatureCounts] = []
    theirs: list[FeatureCounts] = []
    for a, b in pairs:
        feature = base.layout.features[a]
        found = project(other.window.features[b], other.layout.features[b], other.stats[b], feature)
        if found is not None:
            features.append(feature)
            stats.append(base.stats[a])
            own.append(base.window.features[a])
            theirs.append(found)
    if not features:
        return {}
    # Scores, leaves and slices have cells of their own, and are no features.
    layout = msgspec.structs.replace(
        base.layout,
        features=tuple(features),
        score_tensor=None,
        score_edges=(),
        slices=(),
        error_tree=None,
    )
    judge = Judge(
        Baseline(layout=layout, window=_window(layout, base, own), stats=tuple(stats)),
        thresholds=thresholds,
    )
    return {one.feature: one for one in judge.judge(_window(layout, other, theirs))}


def _window(layout: Layout, of: Baseline, features: Sequence[FeatureCounts]) -> Window:
    return Window(
        profile_id=layout.profile_id,
        start_ms=0,
        end_ms=0,
        rows=of.window.rows,
        features=tuple(features),
    )


def _turned(drift: FeatureDrift, new: Baseline, b: int, old: FeatureStats) -> FeatureDrift:
    """Return the drift from new to old as that from old to new: the distances are symmetric."""
    counts = new.window.features[b]
    ratio = (new.stats[b].sd or 1.0) / (old.sd or 1.0)
    return msgspec.structs.replace(
        drift,
        rows=sum(counts.cells),
        w1_sd=None if drift.w1_sd is None else drift.w1_sd * ratio,
        null_rate=new.stats[b].null_rate,
        null_shift=-drift.null_shift,
        other_shift=-drift.other_shift,
    )
