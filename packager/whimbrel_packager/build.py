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
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import msgspec
import numpy as np

from whimbrel_core import identity
from whimbrel_core.bundle import bundle as bundles
from whimbrel_packager import (
    baseline,
    bundle_file,
    child,
    conversion,
    describe,
    keyfiles,
    parity,
    runtime,
)
from whimbrel_packager import frame as frames
from whimbrel_packager import occasion as occasions
from whimbrel_packager import recipe as recipes
from whimbrel_packager.reference import Reference
from whimbrel_packager.report import Report, notes_on
from whimbrel_packager.sources import given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.bundle.parity import ParityVectors
    from whimbrel_core.signing.keys import Signer
    from whimbrel_packager.conversion import Conversion
    from whimbrel_packager.frame import Frame
    from whimbrel_packager.occasion import Occasion
    from whimbrel_packager.recipe import Keywords, Recipe
    from whimbrel_packager.sources import Options

    Array = np.ndarray[Any, Any]

_OTHER_BATCHES = (1, 7)


class PackResult(NamedTuple):
    """The bundle's path and SHA-256, its manifest, and what was found out."""

    path: Path
    digest: str
    manifest: Manifest
    report: Report


def pack(
    model: object = None,
    reference: object = None,
    y: object = None,
    *,
    key: Path | str | Signer,
    out: Path | str = ".",
    recipe: Recipe | Path | str | None = None,
    report: Callable[[str], None] | None = None,
    **settings: Unpack[Keywords],
) -> PackResult:
    """Convert a model, prove it, profile it, sign it, and write ``<name>-<version>.whim``.

    Args:
        model: path of a model file, a fitted estimator, or an `onnx.ModelProto`; None takes the
            recipe's.
        reference: path (.npz, .csv, .parquet), DataFrame, mapping of columns or (n, F) array:
            the data that the model was trained or validated on; None takes the recipe's.
        y: (n,) true labels or values; or name their column with ``label``.
        key: the publisher's signing key: a PEM file, or anything that signs.
        out: folder of the bundle.
        recipe: what to do in all else; a path is that of a `whimbrel.toml`.
        report: called with the name of each stage that begins.
        settings: single keys of the recipe, by their own names: ``name``, ``version``, ``label``,
            ``held_out``, ``rtol``, ``drift``, … (`whimbrel_packager.recipe.Keywords`).

    Returns:
        The bundle's path with its manifest.

    Raises:
        UsageError: something asked for cannot be.
        InputError: the model or the data cannot be read, or do not fit each other.
        ConversionError: the model cannot be converted; names the estimator and the cause.
        ParityError: the conversion is not exact enough; names the worst case.
        StorageError: the bundle cannot be written; nothing is left behind.
    """
    whole = recipes.changed(recipe, **settings)
    whole.check()
    signer = keyfiles.private(Path(key)) if isinstance(key, Path | str) else key
    return build(
        whole,
        whole.given("model") if model is None else model,
        whole.given("reference") if reference is None else reference,
        y,
        signer=signer,
        target=Path(out) / f"{whole.title}{bundles.SUFFIX}",
        tell=report or (lambda _stage: None),
    )


def build(
    recipe: Recipe,
    model: object,
    reference: object,
    y: object,
    *,
    signer: Signer,
    target: Path,
    tell: Callable[[str], None],
) -> PackResult:
    """Follow a recipe; arguments and errors as in `pack`."""
    started = time.perf_counter()
    if target.exists() and occasions.SOURCE_DATE_EPOCH not in os.environ:
        raise bundle_file.taken(target)  # the date alone makes it another bundle
    made = make(recipe, model, reference, y, tell=tell)
    tell("signing")
    bundle = bundles.build(made.files, signer)
    tell("writing")
    bundle_file.write(target, bundle, signer)
    return PackResult(
        path=target,
        digest=identity.sha256(bundle),
        manifest=made.manifest,
        report=msgspec.structs.replace(
            made.report,
            bundle_bytes=len(bundle),
            seconds=round(time.perf_counter() - started, 2),
        ),
    )


class Made(NamedTuple):
    """All files of a bundle but its signature, its manifest, and what was found out."""

    files: dict[str, bytes]
    manifest: Manifest
    report: Report


def make(
    recipe: Recipe,
    model: object,
    reference: object,
    y: object,
    *,
    tell: Callable[[str], None],
    recorded: Occasion | None = None,
) -> Made:
    """Follow a recipe up to the signature; nothing is written.

    Args:
        recipe: what to do.
        model: as in `pack`.
        reference: as in `pack`.
        y: as in `pack`.
        tell: called with the name of each stage that begins.
        recorded: the occasion that is to be repeated; None: this one.
    """
    limits, what = recipe.limits, recipe.title
    tell("reading the reference data")
    data = Reference.read(reference, y, recipe.data.label, recipe.data.held_out)
    with tempfile.TemporaryDirectory(prefix="whimbrel-pack-") as scratch:
        folder = Path(scratch)
        path, options = given.model_file(model, folder, recipe.source)
        done = _convert(
            path, data.frame, folder, options=options, limits=limits, what=what, tell=tell
        )
        index = baseline.positive_index(recipe.data.positive or None, done.result)
        labelled = data.labelled(done)
        frame = data.frame.select(done.result.description.columns, what="the model")
        answers = _run(done, frame, folder, limits=limits, what=what, tell=tell)
        model_digest = given.digest(path)
    occasion = recorded or occasions.this(answers.figures)
    tell("proving parity")
    proved = prove(recipe, done, answers)
    tell("profiling the reference data")
    profile = baseline.build(
        frame,
        answers.outputs["reference"],
        done.result,
        labelled=labelled,
        positive=index,
        units=recipe.data.units,
    )
    quality = (
        baseline.quality(answers.outputs["reference"], done.result, labelled, index)
        if labelled
        else {}
    )
    tell("describing")
    manifest = describe.manifest(
        recipe, done, proved, occasion, profile,
        quality=quality, positive=index, source_digest=model_digest,
    )  # fmt: skip
    files = describe.files(
        manifest, done, profile, proved.vectors,
        model_digest=model_digest, reference_digest=data.digest,
    )  # fmt: skip
    figures, proof = answers.figures, proved.proof
    return Made(
        files=files,
        manifest=manifest,
        report=Report(
            rows=proof.rows,
            cases=proof.cases,
            refused_by_source=proof.refused,
            max_abs_error=proof.max_abs_error,
            rtol=proved.limit.rtol,
            atol=proved.limit.atol,
            label_ties=proof.ties,
            thresholds=done.result.thresholds,
            vectors=proved.vectors.rows,
            model_bytes=len(done.model),
            bundle_bytes=0,
            memory_bytes=figures.memory_bytes,
            latency_us=figures.latency_us,
            latency_16_us=figures.latency_16_us,
            load_ms=figures.load_ms,
            metrics=quality,
            unused_columns=tuple(sorted(set(data.frame.names) - set(frame.names))),
            notes=notes_on(figures, proof, labelled, recipe.data.held_out),
            seconds=0.0,
        ),
    )


class Proved(NamedTuple):
    """A proof with the tolerance that it held to, and the vectors that a device proves again."""

    proof: parity.Proof
    limit: parity.Tolerance
    vectors: ParityVectors


def prove(recipe: Recipe, done: Conversion, answers: runtime.Answers) -> Proved:
    """Compare the runtime's answers with the source's, in every batch; `ParityError` if not."""
    what = f"{recipe.title} ({done.result.description.estimator})"
    limit = parity.tolerance(recipe.parity.rtol, recipe.parity.atol, done)
    corpus = answers.outputs["corpus"]
    proof = parity.prove(done, corpus, limit, what)
    for rows in _OTHER_BATCHES:
        if rows <= done.corpus.frame.rows:
            parity.same_in_any_batch(corpus, answers.outputs[f"batch{rows}"], limit, what, rows)
    feeds = _feeds(done, done.corpus.frame)
    return Proved(proof, limit, parity.choose(done, proof, feeds, corpus, limit))


def _convert(
    path: Path,
    frame: Frame,
    folder: Path,
    *,
    options: Options,
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
