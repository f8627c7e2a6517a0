"""The difference of two bundles: all changes with a verdict, and the figures behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile.drift.drifts import FeatureDrift
from whimbrel_core.profile.drift.shift import shifts
from whimbrel_packager.comparison import figures, operation, origin, schema
from whimbrel_packager.comparison.change import Change, Level, ordered
from whimbrel_packager.comparison.figures import Figure
from whimbrel_packager.written import percent, size, value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.profile.drift.levels import State
    from whimbrel_packager.contents import Contents

_RANK: dict[State, int] = {"too_few": 0, "ok": 1, "notice": 2, "warn": 3, "severe": 4}
_LEVELS: dict[State, Level] = {"notice": "notice", "warn": "warn", "severe": "severe"}


class Side(msgspec.Struct, frozen=True):
    """One of the two bundles.

    Args:
        name: of the model.
        version: of the bundle.
        release: its counter.
        digest: SHA-256 of its file.
        length: of its file, bytes.
        created: when it was packed.
        signature: "verified", "unchecked" or "none".
        key_id: of the key that signed it, verified or not.
    """

    name: str
    version: str
    release: int
    digest: str
    length: int
    created: str
    signature: str
    key_id: str

    @property
    def title(self) -> str:
        """``name-version``."""
        return f"{self.name}-{self.version}"


class Difference(msgspec.Struct, frozen=True):
    """All that differs.

    Args:
        old: the first bundle.
        new: the second.
        compatible: whether callers of the old one can go on with the new one as they are.
        verdict: that in a sentence, with why.
        changes: the worst first.
        figures: of quality, side by side.
        features: how far the reference data of the new one lie from those of the old one, the
            farthest first.
        delta_bytes: of the delta from the old file to the new one; None when none was made.
    """

    old: Side
    new: Side
    compatible: bool
    verdict: str
    changes: tuple[Change, ...]
    figures: tuple[Figure, ...]
    features: tuple[FeatureDrift, ...]
    delta_bytes: int | None = None

    @property
    def update(self) -> bool:
        """Whether devices that have the old one can take the new one, and callers go on."""
        return self.compatible and (
            self.old.digest == self.new.digest or self.new.release > self.old.release
        )


def compare(old: Contents, new: Contents, *, delta_bytes: int | None = None) -> Difference:
    """Return what differs.

    Args:
        old: the bundle that is there.
        new: the bundle that may follow it.
        delta_bytes: of the smallest delta from one file to the other, if one was made.
    """
    found = figures.figures(old, new)
    moved = tuple(sorted(shifts(old.baseline, new.baseline), key=_distance, reverse=True))
    changes = ordered(
        [
            *origin.changes(old, new),
            *schema.changes(old, new),
            *figures.changes(found),
            *_shifts(old, new, moved),
            *operation.changes(old.manifest, new.manifest),
            *_size(old, new, delta_bytes),
        ]
        if old.digest != new.digest
        else []
    )
    return Difference(
        old=_side(old),
        new=_side(new),
        compatible=not any(one.level == "breaking" for one in changes),
        verdict=_verdict(old, new, changes),
        changes=changes,
        figures=found,
        features=moved,
        delta_bytes=delta_bytes,
    )


def _side(contents: Contents) -> Side:
    manifest = contents.manifest
    return Side(
        name=manifest.name,
        version=manifest.version,
        release=manifest.release,
        digest=contents.digest,
        length=contents.length,
        created=manifest.created,
        signature=contents.signature.state,
        key_id=contents.signature.key_id,
    )


def _verdict(old: Contents, new: Contents, changes: tuple[Change, ...]) -> str:
    if old.digest == new.digest:
        return "identical: both are the same file"
    breaking = [one for one in changes if one.level == "breaking"]
    if breaking:
        more = f" (and {len(breaking) - 1} more)" if len(breaking) > 1 else ""
        return f"breaking: {breaking[0].text}{more}"
    if new.manifest.release <= old.manifest.release:
        return (
            f"compatible, but no update: release {new.manifest.release} is not above "
            f"{old.manifest.release}, so devices that have the old one refuse it"
        )
    return "compatible: devices can be updated without changing callers"


def _distance(drift: FeatureDrift) -> tuple[int, float]:
    return _RANK[drift.state], drift.psi or 0.0


def _shifts(
    old: Contents, new: Contents, moved: tuple[FeatureDrift, ...]
) -> Iterator[Change]:  # fmt: skip
    means = [
        {f.name: s.mean for f, s in zip(c.baseline.layout.features, c.baseline.stats, strict=True)}
        for c in (old, new)
    ]
    for one in moved:
        level = _LEVELS.get(one.state)
        if level is None:
            continue
        was, now = (side.get(one.feature) for side in means)
        told = [f"PSI {one.psi:.3f}" if one.psi is not None else ""]
        if was is not None and now is not None:
            told.append(f"mean {value(was, 3)} → {value(now, 3)}")
        if abs(one.null_shift) >= 0.01:  # noqa: PLR2004 - less is nothing to tell
            told.append(f"missing {missing(one)}")
        if one.other_shift >= 0.01:  # noqa: PLR2004 - same
            told.append(f"{percent(one.other_shift)} never seen before")
        text = f"{one.feature} moved in the reference data: " + ", ".join(t for t in told if t)
        yield Change(level, "baseline", f"{one.role} {one.feature}", text,
                     *("" if mean is None else value(mean, 3) for mean in (was, now)))  # fmt: skip


def missing(drift: FeatureDrift) -> str:
    """Return the shares of missing values, old and new."""
    return f"{percent(drift.null_rate - drift.null_shift)} → {percent(drift.null_rate)}"


def _size(old: Contents, new: Contents, delta_bytes: int | None) -> Iterator[Change]:
    text = f"{size(new.length)}, was {size(old.length)}"
    if delta_bytes is not None:
        share = delta_bytes / new.length
        text += f"; as a delta {size(delta_bytes)} ({percent(share)})"
    yield Change("info", "runtime", "size", text, size(old.length), size(new.length))
