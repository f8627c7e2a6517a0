"""The schema of a report: what the model reads and answers, as it is in the reference data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from whimbrel_core.drawing import bars, histogram
from whimbrel_core.profile.layout import MAX_CELLS
from whimbrel_core.profile.projection import project
from whimbrel_packager import written
from whimbrel_packager.pages import layout
from whimbrel_packager.pages.element import Child, Html, maybe, tag
from whimbrel_packager.pages.layout import Column, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.bundle.manifest import Output, Tensor
    from whimbrel_core.profile.baseline import Baseline, FeatureStats
    from whimbrel_core.profile.layout import Feature
    from whimbrel_core.profile.window import FeatureCounts
    from whimbrel_packager.contents import Contents

WORDS = 8  # of a vocabulary that are drawn
_WIDTH, _HEIGHT = 350, 132


class Profiled(NamedTuple):
    """One feature with all that the baseline knows of it."""

    feature: Feature
    stats: FeatureStats
    counts: FeatureCounts

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each cell among the values that are in one."""
        return _shares(self.counts)


def profiled(baseline: Baseline) -> list[Profiled]:
    """Return the features of a baseline."""
    features, counts = baseline.layout.features, baseline.window.features
    return [Profiled(*one) for one in zip(features, baseline.stats, counts, strict=True)]


def section(contents: Contents) -> Section:
    """Return the section."""
    manifest = contents.manifest
    shown = profiled(contents.baseline)
    rows = written.count(contents.baseline.window.rows)
    return Section(
        "schema",
        "Schema",
        f"What callers send and get, with what {rows} rows of reference data hold.",
        [
            tag("h3", "Inputs"),
            layout.table(
                ["Name", "Type", "Unit", Column("Typical", number=True), "Range",
                 Column("Missing", number=True), "Distribution"],
                (row for tensor in manifest.inputs for row in _rows(tensor, shown, "input")),
                style="cards schema",
            ),
            tag("h3", "Outputs"),
            layout.table(
                ["Name", "Type", "Meaning", Column("Typical", number=True), "Range",
                 "Distribution"],
                (row for output in manifest.outputs for row in _answers(output, shown)),
                style="cards schema",
            ),
        ],
    )  # fmt: skip


def _rows(tensor: Tensor, shown: list[Profiled], role: str) -> Iterator[list[Child]]:
    found = [p for p in shown if p.feature.role == role and p.feature.tensor == tensor.name]
    kind = _type(tensor)
    if not found:
        yield [
            tensor.name,
            kind,
            None,
            None,
            tag("span", "not profiled", class_="faint"),
            None,
            None,
        ]
    for one in found:
        feature, stats = one.feature, one.stats
        of = maybe(
            feature.name != tensor.name,
            tag("span", f"{tensor.name}[{feature.column}]", class_="of"),
        )
        yield [
            [feature.name, of],
            kind,
            feature.unit or None,
            typical(one),
            extent(one),
            written.percent(stats.null_rate) if stats.null_rate else "none",
            Html(spark(one)),
        ]


def _answers(output: Output, shown: list[Profiled]) -> Iterator[list[Child]]:
    found = [
        p for p in shown if p.feature.role == "output" and p.feature.tensor == output.name
    ]  # fmt: skip
    if not found:
        yield [output.name, _type(output), output.role, None, None, None]
    for one in found:
        yield [
            one.feature.name,
            _type(output),
            output.role,
            typical(one, named=output.role == "label"),
            extent(one),
            Html(spark(one)),
        ]


def _type(tensor: Tensor | Output) -> Child:
    """Return a datatype, and the shape where it is more than a column."""
    if tensor.shape in {(-1,), (-1, 1)}:
        return tensor.datatype
    shape = " × ".join("batch" if n < 0 else str(n) for n in tensor.shape)
    return [tensor.datatype, tag("span", shape, class_="of")]


def typical(one: Profiled, *, named: bool = False) -> Child:
    """Return mean and standard deviation; of words, or ``named`` values, the most frequent one."""
    stats, feature = one.stats, one.feature
    if stats.mean is not None and stats.sd is not None and not named:
        return f"{written.value(stats.mean, 3)} ± {written.value(stats.sd, 3)}"
    names = feature.cell_names()[:-1]
    if not names or not any(one.shares):
        return None
    most = max(range(len(names)), key=one.shares.__getitem__)
    return f"{names[most]} ({written.percent(one.shares[most], 0)})"


def extent(one: Profiled) -> Child:
    """Return from where to where values are, or how many words there are."""
    stats, feature = one.stats, one.feature
    if stats.min is not None and stats.max is not None:
        return f"{written.value(stats.min)} to {written.value(stats.max)}"
    if feature.kind == "categorical":
        count = len(feature.vocabulary)
        other = one.counts.cells[-1] > 0
        return f"{count} word{'' if count == 1 else 's'}{' and rarer ones' if other else ''}"
    return None


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
        return _drawn(feature, *(_shares(one) for one in both if one is not None))
    after = project(new.counts, new.feature, new.stats, old.feature)
    if after is not None:
        return _drawn(old.feature, old.shares, _shares(after))
    before = project(old.counts, old.feature, old.stats, new.feature)
    return "" if before is None else _drawn(new.feature, _shares(before), new.shares)


def _common(old: Feature, new: Feature) -> tuple[float, ...]:
    edges = sorted({*old.edges, *new.edges})
    every = -(-len(edges) // (MAX_CELLS - 2)) or 1
    return tuple(sorted({*edges[::every], *edges[-1:]}))


def _drawn(feature: Feature, *sides: tuple[float, ...]) -> str:
    title = f"Distribution of {feature.name}"
    if feature.kind == "categorical" and len(feature.vocabulary) > 1:
        return bars.named(words(feature, *sides), title=title, width=_WIDTH)
    shown = histogram.bars(feature.kind, feature.cell_names(), feature.edges, *sides)
    return histogram.draw(
        _without_empty_other(shown, feature.kind), title=title, width=_WIDTH, height=_HEIGHT
    )


def words(
    feature: Feature, shares: tuple[float, ...], current: tuple[float, ...] | None = None
) -> list[bars.Named]:
    """Return the most frequent words, and all others in one bar."""
    kept = feature.vocabulary[:WORDS]
    now: list[float | None] = [None] * len(shares) if current is None else list(current)
    shown = [bars.Named(word, shares[i], now[i]) for i, word in enumerate(kept)]
    rest, rest_now = (
        sum(shares[len(kept) :]),
        None if current is None else sum(current[len(kept) :]),
    )
    if rest or rest_now:
        more = len(feature.vocabulary) - len(kept)
        name = f"{more} other words" if more > 0 else "other"
        shown.append(bars.Named(name, rest, rest_now, rest=True))
    return shown


def _shares(counts: FeatureCounts) -> tuple[float, ...]:
    total = max(sum(counts.cells), 1)
    return tuple(n / total for n in counts.cells)


def _without_empty_other(shown: histogram.Bars, kind: str) -> histogram.Bars:
    """Leave out the cell of other values where no value is other."""
    if kind == "numeric" or any(side[-1] for side in shown.sides):
        return shown
    return histogram.Bars(shown.names[:-1], tuple(side[:-1] for side in shown.sides))
