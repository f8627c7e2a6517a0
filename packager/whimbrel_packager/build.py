"""Packing: a model and its reference data become one signed bundle, or a named refusal.

The order is the promise: convert → canonical → run → prove → profile → describe → sign → write.
Nothing is written before everything has held, and the file appears whole.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Unpack

import msgspec

from whimbrel_core import identity
from whimbrel_core.bundle import bundle as bundles
from whimbrel_packager import (
    baseline,
    bundle_file,
    describe,
    proving,
    signers,
)
from whimbrel_packager import lineage as lineages
from whimbrel_packager import occasion as occasions
from whimbrel_packager import recipe as recipes
from whimbrel_packager.reference import Reference
from whimbrel_packager.report import Report, notes_on
from whimbrel_packager.sources import given

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.signing.keys import Signer
    from whimbrel_packager.occasion import Occasion
    from whimbrel_packager.recipe import Keywords, Recipe
    from whimbrel_packager.sources import Options


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
        key: the publisher's signing key: a PEM file, a URI (`signers`), or anything that signs.
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
    for dotted, what in (("model", model), ("data.reference", reference)):
        if what is not None:  # what is given goes before what the recipe names
            whole = recipes.with_values(whole, {dotted: str(given.file(what) or "")})
    whole.check()
    signer = signers.load(key) if isinstance(key, Path | str) else key
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
    options: Options | None = None,
) -> Made:
    """Follow a recipe up to the signature; nothing is written.

    Args:
        recipe: what to do.
        model: as in `pack`.
        reference: as in `pack`.
        y: as in `pack`.
        tell: called with the name of each stage that begins.
        recorded: the occasion that is to be repeated; None: this one.
        options: to open the model with, in place of the recipe's.
    """
    recipe = recipes.sorted_keys(recipe)
    tell("reading the reference data")
    data = Reference.read(reference, y, recipe.data.label, recipe.data.held_out)
    with tempfile.TemporaryDirectory(prefix="whimbrel-pack-") as scratch:
        folder = Path(scratch)
        path, options = given.model_file(
            model, folder, options or recipe.source, data.frame
        )
        lineage = recorded.lineage if recorded else lineages.find(
            recipe.lineage, model=given.file(model), data=given.file(reference), reference=data,
            env=os.environ,
        )  # fmt: skip
        done, frame, answers, proved = proving.first_proven(
            recipe, path, data.frame, folder, options=options, tell=tell,
            check=lambda done: (
                baseline.positive_index(recipe.data.positive or None, done.result),
                data.labelled(done),
            ),
        )  # fmt: skip
        index = baseline.positive_index(recipe.data.positive or None, done.result)
        labelled = data.labelled(done)
    occasion = occasions.sorted_keys(recorded or occasions.this(answers.figures, lineage))
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
        quality=quality, positive=index,
    )  # fmt: skip
    files = describe.files(
        recipe, manifest, done, profile, chosen=proved.vectors, occasion=occasion
    )
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
