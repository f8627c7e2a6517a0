"""The proof of a report: how the conversion was proven, and what it takes to run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.pages import layout
from whimbrel_core.pages.element import Child, maybe, tag
from whimbrel_core.pages.layout import Column, Section
from whimbrel_packager import written

if TYPE_CHECKING:
    from whimbrel_packager.contents import Contents

# What the rows of each case are; see `whimbrel_packager.conversion.corpus`.
CASES = {
    "real": "rows of the reference data as they are",
    "nan": "not-a-number, in each column in turn",
    "infinity": "plus and minus infinity",
    "threshold": "one float step on either side of each split threshold",
    "grid": "decimal grids, on which rounding shows",
    "magnitude": "very large and very small values",
    "category": "every known word",
    "unseen": "words that the training never saw, and known ones misspelt",
    "empty": "empty words",
    "missing": "missing words",
}


def section(contents: Contents) -> Section:
    """Return the section of the conversion's proof."""
    manifest = contents.manifest
    parity, source = manifest.parity, manifest.source
    how = (
        f"Converted by {source.converter} {source.converter_version}. "
        if source.converter_version
        else ""
    )
    sentence = (
        f"{how}The ONNX model was asked {written.count(parity.rows)} rows, most of them made to "
        "break it, and answered each as the source model did, within what is allowed."
    )
    rows: list[list[Child]] = [
        [name, CASES.get(name), written.count(count)]
        for name, count in sorted(parity.cases.items(), key=lambda case: -case[1])
    ]
    return Section(
        "proof",
        "Proof of conversion",
        "The converted model answers as the trained one.",
        [
            tag("p", sentence),
            layout.facts(
                [
                    ("Largest difference", f"{parity.max_abs_error:.2g}"),
                    ("Allowed", f"{parity.atol:g} + {parity.rtol:g} · |value|"),
                    ("Rows with tied labels", written.count(parity.label_ties)),
                    ("Rows proven again on devices", contents.vectors and f"{contents.vectors:,}"),
                    ("Rewrites it took", ", ".join(source.rewrites)),
                ]
            ),
            layout.table(["Rows", "What they are", Column("Count", number=True)], rows),
            unread(contents, "parity.npz"),
        ],
    )


def runtime(contents: Contents) -> Section:
    """Return the section of what a device needs."""
    manifest = contents.manifest
    model, needs, metrics = manifest.model, manifest.requirements, manifest.metrics
    measured = contents.record.occasion.measured if contents.record else None
    opsets = ", ".join(f"{name or 'ai.onnx'} {v}" for name, v in sorted(model.opsets.items()))
    times = {
        name: written.latency(metrics[key])
        for name, key in (("One row", "latency_us"), ("16 rows", "latency_16_us"))
        if key in metrics
    }
    operators = sorted(model.operators.items(), key=lambda one: (-one[1], one[0]))
    return Section(
        "runtime",
        "Runtime",
        "What a device needs. Times and memory were measured where it was packed, on one thread.",
        [
            layout.facts(
                [
                    ("onnxruntime", f"{needs.onnxruntime} or newer"),
                    ("ONNX", f"IR version {model.ir_version}, opset {opsets}"),
                    ("Model file", f"{model.file}, {written.size(model.size_bytes)}"),
                    ("Memory", written.size(needs.memory_bytes) if needs.memory_bytes else None),
                    *times.items(),
                    ("Loads in", f"{measured.load_ms:.0f} ms" if measured else None),
                ]
            ),
            maybe(operators, tag("h3", f"{sum(n for _, n in operators)} operators")),
            maybe(
                operators,
                tag(
                    "ul",
                    (
                        tag("li", name, maybe(count > 1, tag("span", f" × {count}")))
                        for name, count in operators
                    ),
                    class_="chips",
                ),
            ),
        ],
    )


def optimisation(contents: Contents) -> Section | None:
    """Return the section of what was made smaller, or None when nothing was."""
    made = contents.manifest.optimisation
    if made is None:
        return None
    size = contents.manifest.model.size_bytes
    graph = "" if made.graph == "none" else f"graph {made.graph}"
    rows: list[list[Child]] = [
        [
            written.metric(name),
            written.value(loss, 3),
            f"at most {written.value(made.allowed[name], 3)}" if name in made.allowed else None,
        ]
        for name, loss in sorted(made.loss.items())
    ]
    columns: list[Column | str] = ["Loss", Column("Measured", number=True),
                                   Column("Allowed", number=True)]  # fmt: skip
    on = f" Measured on {written.count(made.rows)} rows." if made.rows and rows else ""
    return Section(
        "smaller",
        "Made smaller",
        f"After the proof, with what it cost.{on}",
        [
            layout.facts(
                [
                    ("Precision", ", ".join(part for part in (made.precision, graph) if part)),
                    (
                        "Model file",
                        f"{written.size(made.size_bytes)} → {written.size(size)} "
                        f"({written.percent(size / made.size_bytes, 0)})"
                        if made.size_bytes
                        else None,
                    ),
                    (
                        "One row took",
                        written.latency(made.latency_us) if made.latency_us else None,
                    ),
                    (
                        "Devices may differ by",
                        f"{made.atol:g} + {made.rtol:g} · |value|"
                        if made.atol or made.rtol
                        else None,
                    ),
                ]
            ),
            layout.table(columns, rows, style="narrow"),
        ],
    )


def unread(contents: Contents, name: str) -> Child:
    """Return what is wrong with a file of the bundle, or nothing."""
    return maybe(contents.unread.get(name), tag("p", contents.unread.get(name), class_="warning"))
