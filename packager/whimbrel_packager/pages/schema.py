"""The schema of a report: what the model reads and answers, as it is in the reference data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.pages import layout
from whimbrel_core.pages.distribution import Profiled, profiled, spark
from whimbrel_core.pages.element import Child, Html, maybe, tag
from whimbrel_core.pages.layout import Column, Section
from whimbrel_packager import written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.bundle.manifest import Output, Tensor
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_packager.contents import Contents


def section(contents: Contents) -> Section:
    """Return the section."""
    manifest = contents.manifest
    shown = _by_tensor(contents.baseline)
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
                (row for tensor in manifest.inputs for row in _rows(tensor, shown.get(tensor.name, []))),
                style="cards schema",
            ),
            tag("h3", "Outputs"),
            layout.table(
                ["Name", "Type", "Meaning", Column("Typical", number=True), "Range",
                 "Distribution"],
                (row for output in manifest.outputs
                 for row in _answers(output, shown.get(output.name, []))),
                style="cards schema",
            ),
        ],
    )  # fmt: skip


def _by_tensor(baseline: Baseline) -> dict[str, list[Profiled]]:
    """Return features by the tensor that they are columns, or descriptions, of."""
    described = {one.name: one.tensor for one in baseline.layout.descriptors}
    found: dict[str, list[Profiled]] = {}
    for one in profiled(baseline):
        tensor = one.feature.tensor
        found.setdefault(described.get(tensor, tensor), []).append(one)
    return found


def _rows(tensor: Tensor, found: list[Profiled]) -> Iterator[list[Child]]:
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
            tag("span", f"{feature.tensor}[{feature.column}]", class_="of"),
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


def _answers(output: Output, found: list[Profiled]) -> Iterator[list[Child]]:
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
