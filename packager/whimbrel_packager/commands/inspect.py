"""``whimbrel inspect``: look into a bundle without any key."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_core.bundle.manifest import GateOutcome, Manifest, Optimisation
    from whimbrel_packager.record.lineage import Dependency
    from whimbrel_packager.record.provenance import Record

_WIDTH = 100  # columns
_TIED = "\N{NO-BREAK SPACE}"  # while lines are broken


@click.command(epilog="Example: whimbrel inspect flights-1.0.0.whim")
@click.argument("bundle", type=click.Path(path_type=Path))
@output.json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE says of itself: model, proof, quality, lineage, files.

    Nothing is verified: see 'whimbrel verify'. What went in, with digests, is there when it was
    packed with its record; --json has all of that, too.
    """
    from whimbrel_core.bundle import bundle as bundles

    with opened(bundle) as file:
        manifest, sizes = bundles.inspect(file, what=str(bundle))
        record = _record(file, sizes, str(bundle))
    value = {"verified": False, "manifest": manifest, "files": sizes, "record": record}
    shown = ["NOT VERIFIED (see 'whimbrel verify')", *lines(manifest, sizes, record)]
    output.result(value, shown, as_json=as_json)


def opened(path: Path) -> BinaryIO:
    """Open a bundle, or raise `UsageError`."""
    from whimbrel_core.errors import UsageError

    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def lines(
    manifest: Manifest, sizes: Mapping[str, int], record: Record | None = None
) -> Iterator[str]:
    """Yield a manifest, and the record of a bundle if there is one, for people."""
    yield f"{manifest.name} {manifest.version}, release {manifest.release}, {manifest.purpose}"
    if manifest.description:
        yield from textwrap.wrap(manifest.description, _WIDTH - 2,
                                 initial_indent="  ", subsequent_indent="  ")  # fmt: skip
    sections = {
        "model": _model(manifest),
        "quality": _quality(manifest),
        "proof": _proof(manifest),
        "lineage": _lineage(manifest, record),
        "watch": _watch(manifest),
        "files": ((name, output.size(size)) for name, size in sizes.items()),
    }
    told = {title: [row for row in rows if row[1]] for title, rows in sections.items()}
    width = max(len(label) for rows in told.values() for label, _ in rows) + 2
    for title, rows in told.items():
        if rows:
            yield title
        for label, text in rows:
            wrapped = textwrap.wrap(
                text, _WIDTH, initial_indent=f"  {label:<{width}}",
                subsequent_indent=" " * (width + 2), break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
            yield from (line.replace(_TIED, " ") for line in wrapped)


def _model(manifest: Manifest) -> Iterator[tuple[str, str]]:
    source, needs, model = manifest.source, manifest.requirements, manifest.model
    yield "made from", f"{source.estimator} ({source.framework} {source.framework_version})"
    converter = f"{source.converter} {source.converter_version}".strip()
    if source.converter_version:
        yield "converter", ", ".join([converter, *source.rewrites])
    opsets = ", ".join(f"{name or 'ai.onnx'} {v}" for name, v in sorted(model.opsets.items()))
    operators = sum(model.operators.values())
    yield "format", f"ONNX, {output.size(model.size_bytes)}, {operators} operators, opset {opsets}"
    if manifest.optimisation is not None:
        yield "made small", _optimisation(manifest.optimisation)
    yield "inputs", ", ".join(f"{t.name} {t.datatype}{_shape(t.shape)}" for t in manifest.inputs)
    yield (
        "outputs",
        ", ".join(f"{o.name} {o.datatype}{_shape(o.shape)} ({o.role})" for o in manifest.outputs),
    )
    yield (
        "classes",
        ", ".join(
            f"{name} (positive)" if i == manifest.positive else name
            for i, name in enumerate(manifest.classes)
        ),
    )
    memory = output.size(needs.memory_bytes) if needs.memory_bytes else "memory not measured"
    devices = f"device class {', '.join(needs.device_classes)}" if needs.device_classes else ""
    yield (
        "needs",
        ", ".join(part for part in (f"onnxruntime ≥ {needs.onnxruntime}", memory, devices) if part),
    )
    yield "packed", manifest.created
    yield "licence", manifest.licence


def _optimisation(made: Optimisation) -> str:
    lost = ", ".join(f"{name}{_TIED}{value:.3g}" for name, value in sorted(made.loss.items()))
    return f"{made.precision}, graph {made.graph}; was {output.size(made.size_bytes)}; " + (
        f"lost {lost} on {made.rows} rows" if lost else "its loss was not measured"
    )


def _shape(shape: tuple[int, ...]) -> str:
    """Return what a shape has beyond a column of a table: "" for (batch, 1)."""
    if shape in ((-1,), (-1, 1)):
        return ""
    return f"[{','.join('batch' if n < 0 else str(n) for n in shape)}]"


def _quality(manifest: Manifest) -> Iterator[tuple[str, str]]:
    times = {"latency_us": "µs a row", "latency_16_us": "µs per 16 rows"}
    told = {name: value for name, value in manifest.metrics.items() if name not in times}
    rows = told.pop("rows", None)
    on = f" on {rows:g} rows" if rows else ""
    if told:
        yield (
            "measured",
            ", ".join(f"{name}{_TIED}{value:.4g}" for name, value in told.items()) + on,
        )
    yield (
        "runs in",
        ", ".join(
            f"{manifest.metrics[name]:g} {unit}"
            for name, unit in times.items()
            if name in manifest.metrics
        ),
    )
    for gate in manifest.gates:
        yield "gate", _gate(gate)


def _gate(gate: GateOutcome) -> str:
    state = "holds" if gate.held and gate.judged else "not judged" if gate.held else "DOES NOT HOLD"
    return f"{gate.name} {state}" + (f": {gate.message}" if gate.message else "")


def _proof(manifest: Manifest) -> Iterator[tuple[str, str]]:
    parity = manifest.parity
    cases = ", ".join(f"{name}{_TIED}{count}" for name, count in sorted(parity.cases.items()))
    yield "parity", f"{parity.rows} rows as the source answers them ({cases})"
    ties = f"; {parity.label_ties} rows with tied labels" if parity.label_ties else ""
    yield (
        "difference",
        (
            f"{parity.max_abs_error:.2g} at most, allowed {parity.atol:g} + {parity.rtol:g}·|x|{ties}"
        ),
    )


def _lineage(manifest: Manifest, record: Record | None) -> Iterator[tuple[str, str]]:
    if record is None:
        yield "model file", f"sha256 {manifest.source.digest}" if manifest.source.digest else ""
    else:
        for entry in record.occasion.lineage.dependencies:
            yield entry.name, _dependency(entry)
    for tool, run in sorted(manifest.lineage.runs.items()):
        yield "run", f"{tool} {run}"
    yield "seeds", _pairs(manifest.lineage.seeds)
    yield "training", _pairs(manifest.training)
    if record is None:
        return
    yield "stated", _pairs(record.occasion.lineage.metrics)
    yield "stage", _pairs(record.occasion.lineage.parameters)
    yield "parameters", _pairs(record.parameters)
    versions = record.environment.packages
    yield (
        "packed by",
        ", ".join(
            [
                f"Python {record.environment.python}",
                *(f"{n} {v}" for n, v in sorted(versions.items())),
            ]
        ),
    )


def _dependency(entry: Dependency) -> str:
    notes = [
        f"{name}: {value}"
        if value is not True
        else f"WITH {name}"
        if name.startswith("unc")
        else name
        for name, value in entry.annotations.items()
        if value is not False and name != "digest of"
    ]
    digests = [
        f"{kind}{_TIED}{value}" for kind, value in sorted(entry.digest.items(), reverse=True)
    ]
    return ", ".join([*([entry.uri] if entry.uri else []), *digests, *notes])


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name}{_TIED}={_TIED}{value}"
        for name, value in sorted(values.items())
        if value is not None
    )


def _watch(manifest: Manifest) -> Iterator[tuple[str, str]]:
    drift = manifest.drift
    yield (
        "windows",
        (
            f"{drift.window_s} s, at least {drift.min_rows} rows; warn at PSI {drift.warn_psi:g}, "
            f"severe at {drift.severe_psi:g}"
        ),
    )
    yield "profile", manifest.profile_id


def _record(file: BinaryIO, sizes: Mapping[str, int], what: str) -> Record | None:
    """Return what the provenance says; None when there is none, or of an older packager."""
    from whimbrel_core.bundle import archive
    from whimbrel_core.bundle import bundle as bundles
    from whimbrel_core.errors import BundleError
    from whimbrel_packager.record import provenance

    if bundles.PROVENANCE not in sizes:
        return None
    data = archive.Archive(file).read(bundles.PROVENANCE, limit=provenance.MAX_BYTES)
    try:
        return provenance.read(data, what=what)
    except BundleError as error:
        if error.code == provenance.NO_RECIPE:
            return None
        raise
