"""Packing: a model and its reference data become one signed bundle, or a named refusal.

The order is the promise: convert → canonical → run → prove → profile → describe → sign → write.
Nothing is written before everything has held, and the file appears whole.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_core import identity
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle.manifest import DriftPolicy, Manifest
from whimbrel_core.errors import UsageError
from whimbrel_packager import (
    baseline,
    bundle_file,
    child,
    conversion,
    describe,
    keyfiles,
    parity,
    runtime,
    sources,
)
from whimbrel_packager import frame as frames
from whimbrel_packager.reference import Reference
from whimbrel_packager.report import Report, notes_on
from whimbrel_packager.sources import given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from whimbrel_core.signing.keys import Signer
    from whimbrel_packager.conversion import Conversion
    from whimbrel_packager.frame import Frame

    Array = np.ndarray[Any, Any]

_OTHER_BATCHES = (1, 7)


class PackResult(NamedTuple):
    """The bundle's path and SHA-256, its manifest, and what was found out."""

    path: Path
    digest: str
    manifest: Manifest
    report: Report


def pack(
    model: object,
    reference: object,
    y: object = None,
    *,
    name: str,
    version: str,
    key: Path | str | Signer,
    out: Path | str = ".",
    label: str | None = None,
    held_out: str | None = None,
    release: int = 1,
    positive: str | None = None,
    units: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    description: str = "",
    licence: str = "",
    device_classes: Sequence[str] = (),
    drift: DriftPolicy | None = None,
    rtol: float = 1e-4,
    atol: float | None = None,
    options: sources.Options | None = None,
    limits: child.Limits | None = None,
    report: Callable[[str], None] | None = None,
) -> PackResult:
    """Convert a model, prove it, profile it, sign it, and write ``<name>-<version>.whim``.

    Args:
        model: path of a model file (.skops, .joblib, .pkl, .onnx), a fitted scikit-learn
            estimator, or an `onnx.ModelProto`.
        reference: path (.npz, .csv, .parquet), DataFrame, mapping of columns or (n, F) array:
            the data that the model was trained or validated on.
        y: (n,) true labels or values; or name their column with ``label``.
        name: of the model.
        version: SemVer.
        key: the publisher's signing key: a PEM file, or anything that signs.
        out: folder of the bundle.
        label: the reference column that holds the true label or value.
        held_out: a column of booleans: the rows that the model was not trained on. Quality and
            calibration come from these; without it, from all rows.
        release: counter of releases of this model; devices never go back below one.
        positive: name of the positive class of a two-class model.
        units: physical units by column.
        params: what to record about the training.
        description: a sentence for people.
        licence: of the model.
        device_classes: devices it is meant for; empty: any.
        drift: how its windows are made and judged.
        rtol: relative tolerance of parity.
        atol: absolute tolerance; None: 1e-5 (times the output's spread for a regression).
        options: about the source.
        limits: time and memory of the conversion.
        report: called with the name of each stage that begins.

    Returns:
        The bundle's path with its manifest.

    Raises:
        UsageError: something asked for cannot be.
        InputError: the model or the data cannot be read, or do not fit each other.
        ConversionError: the model cannot be converted; names the estimator and the cause.
        ParityError: the conversion is not exact enough; names the worst case.
        StorageError: the bundle cannot be written; nothing is left behind.
    """
    started = time.perf_counter()
    tell = report or (lambda _stage: None)
    _check_identity(name, version, release)
    target = Path(out) / f"{name}-{version}{bundles.SUFFIX}"
    if target.exists() and describe.SOURCE_DATE_EPOCH not in os.environ:
        raise bundle_file.taken(target)  # the date alone makes it another bundle
    options = options or sources.Options()
    limits = limits or child.Limits()
    signer = keyfiles.private(Path(key)) if isinstance(key, Path | str) else key
    tell("reading the reference data")
    data = Reference.read(reference, y, label, held_out)
    with tempfile.TemporaryDirectory(prefix="whimbrel-pack-") as scratch:
        folder = Path(scratch)
        path, options = given.model_file(model, folder, options)
        title = f"{name} {version}"
        done = _convert(
            path, data.frame, folder, options=options, limits=limits, what=title, tell=tell
        )
        index = baseline.positive_index(positive, done.result)
        labelled = data.labelled(done)
        frame = data.frame.select(done.result.description.columns, what="the model")
        answers = _run(done, frame, folder, limits=limits, what=title, tell=tell)
        model_digest = given.digest(path)
    what = f"{name} {version} ({done.result.description.estimator})"
    tell("proving parity")
    limit = parity.tolerance(rtol, atol, done)
    proof = parity.prove(done, answers.outputs["corpus"], limit, what)
    for rows in _OTHER_BATCHES:
        if rows <= done.corpus.frame.rows:
            parity.same_in_any_batch(
                answers.outputs["corpus"], answers.outputs[f"batch{rows}"], limit, what, rows
            )
    feeds = _feeds(done, done.corpus.frame)
    chosen = parity.choose(done, proof, feeds, answers.outputs["corpus"], limit)
    tell("profiling the reference data")
    profile = baseline.build(
        frame,
        answers.outputs["reference"],
        done.result,
        labelled=labelled,
        positive=index,
        units=units or {},
    )
    quality = (
        baseline.quality(answers.outputs["reference"], done.result, labelled, index)
        if labelled
        else {}
    )
    tell("signing")
    manifest = describe.manifest(
        done, proof, limit, answers.figures, profile,
        identity_of=(name, version, release), quality=quality, positive=index,
        params=params or {}, description=description, licence=licence,
        device_classes=device_classes, drift=drift or DriftPolicy(), source_digest=model_digest,
    )  # fmt: skip
    files = describe.files(
        manifest, done, profile, chosen, model_digest=model_digest, reference_digest=data.digest
    )
    bundle = bundles.build(files, signer)
    tell("writing")
    bundle_file.write(target, bundle, signer)
    figures = answers.figures
    return PackResult(
        path=target,
        digest=identity.sha256(bundle),
        manifest=manifest,
        report=Report(
            rows=proof.rows,
            cases=proof.cases,
            refused_by_source=proof.refused,
            max_abs_error=proof.max_abs_error,
            rtol=limit.rtol,
            atol=limit.atol,
            label_ties=proof.ties,
            thresholds=done.result.thresholds,
            vectors=chosen.rows,
            model_bytes=len(done.model),
            bundle_bytes=len(bundle),
            memory_bytes=figures.memory_bytes,
            latency_us=figures.latency_us,
            latency_16_us=figures.latency_16_us,
            load_ms=figures.load_ms,
            metrics=quality,
            unused_columns=tuple(sorted(set(data.frame.names) - set(frame.names))),
            notes=notes_on(figures, proof, labelled, held_out),
            seconds=round(time.perf_counter() - started, 2),
        ),
    )


def _check_identity(name: str, version: str, release: int) -> None:
    identity.model_name(name)
    identity.version(version)
    if release < 1:
        raise UsageError(f"release counter is {release}, it starts at 1")


def _convert(
    path: Path,
    frame: Frame,
    folder: Path,
    *,
    options: sources.Options,
    limits: child.Limits,
    what: str,
    tell: Callable[[str], None],
) -> Conversion:
    home = folder / "conversion"
    home.mkdir()
    with _running(conversion.start(path, frame, options, home, limits)) as running:
        return conversion.collect(running, home, what, tell)


def _run(
    done: Conversion,
    frame: Frame,
    folder: Path,
    *,
    limits: child.Limits,
    what: str,
    tell: Callable[[str], None],
) -> runtime.Answers:
    home = folder / "runtime"
    home.mkdir()
    corpus = _feeds(done, done.corpus.frame)
    batches: dict[str, Mapping[str, Array]] = {
        "corpus": corpus,
        "reference": _feeds(done, frame),
        **{
            f"batch{rows}": {name: array[:rows] for name, array in corpus.items()}
            for rows in _OTHER_BATCHES
        },
    }
    outputs = tuple(name for name, _, _ in done.result.outputs)
    with _running(runtime.start(done.model, batches, outputs, home, limits)) as running:
        return runtime.collect(running, home, what, tell)


@contextmanager
def _running(process: child.Child) -> Iterator[child.Child]:
    try:
        yield process
    finally:
        process.kill()


def _feeds(done: Conversion, frame: Frame) -> Mapping[str, Array]:
    """Return a frame as the model's inputs, in the types and ranks it declares."""
    fed = dict(frames.tensors(frame, done.result.description.matrix))
    types = {"FP64": np.float64, "INT32": np.int32, "BOOL": np.bool_, "INT64": np.int64,
             "FP32": np.float32}  # fmt: skip
    for name, kind, shape in done.result.inputs:
        array = fed[name] if kind == "BYTES" else fed[name].astype(types[kind], copy=False)
        fed[name] = array.reshape(-1) if len(shape) == 1 else array
    return {name: fed[name] for name, _, _ in done.result.inputs}
