"""Packing: a model and its reference data become one signed bundle, or a named refusal.

The order is the promise: convert → canonical → run → prove → profile → describe → judge (gates) →
sign → write.
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
from whimbrel_packager import baseline, bundle_file
from whimbrel_packager import recipe as recipes
from whimbrel_packager.conversion import proving
from whimbrel_packager.gates import gathering
from whimbrel_packager.quality import metrics
from whimbrel_packager.record import describe, traces
from whimbrel_packager.record import lineage as lineages
from whimbrel_packager.record import occasion as occasions
from whimbrel_packager.reference import Reference
from whimbrel_packager.report import Report, notes_on
from whimbrel_packager.signing import signers
from whimbrel_packager.smaller import optimising
from whimbrel_packager.sources import given

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.signing.keys import PublicKey, Signer
    from whimbrel_packager.gates import Gate
    from whimbrel_packager.recipe import Keywords, Recipe
    from whimbrel_packager.record.occasion import Occasion
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
    own_gates: Sequence[Gate] = (),
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
        own_gates: callables that look at a `gates.Context` and answer with a `gates.Outcome`;
            asked after those of the recipe.
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
        GateError: gates do not hold; its ``report`` is the `gates.Verdict` over all of them.
        StorageError: the bundle cannot be written; nothing is left behind.
    """
    whole = _whole(recipe, model, reference, settings)
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
        own_gates=own_gates,
    )


def check(
    model: object = None,
    reference: object = None,
    y: object = None,
    *,
    key: PublicKey | None = None,
    recipe: Recipe | Path | str | None = None,
    own_gates: Sequence[Gate] = (),
    report: Callable[[str], None] | None = None,
    **settings: Unpack[Keywords],
) -> Report:
    """Do all that `pack` does up to the gates; sign nothing, write nothing.

    Arguments and errors are those of `pack`, but that gates which do not hold raise nothing: see
    ``gates`` of the report. ``key`` is one that the incumbent may be signed with.
    """
    whole = _whole(recipe, model, reference, settings)
    whole.check()
    made = make(
        whole,
        whole.given("model") if model is None else model,
        whole.given("reference") if reference is None else reference,
        y,
        tell=report or (lambda _stage: None),
        own_gates=own_gates,
        key=key,
    )
    return msgspec.structs.replace(made.report, bundle_bytes=sum(map(len, made.files.values())))


def _whole(
    recipe: Recipe | Path | str | None, model: object, reference: object, settings: Keywords
) -> Recipe:
    """Return the recipe with what was given beside it, which goes before what it names."""
    whole = recipes.changed(recipe, **settings)
    for dotted, what in (("model", model), ("data.reference", reference)):
        if what is not None:
            whole = recipes.with_values(whole, {dotted: str(given.file(what) or "")})
    return whole


def build(
    recipe: Recipe,
    model: object,
    reference: object,
    y: object,
    *,
    signer: Signer,
    target: Path,
    tell: Callable[[str], None],
    own_gates: Sequence[Gate] = (),
) -> PackResult:
    """Follow a recipe; arguments and errors as in `pack`."""
    started = time.perf_counter()
    if target.exists() and occasions.SOURCE_DATE_EPOCH not in os.environ:
        raise bundle_file.taken(target)  # the date alone makes it another bundle
    made = make(recipe, model, reference, y, tell=tell, own_gates=own_gates, key=signer.public)
    if made.report.gates is not None:
        made.report.gates.require()
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
    own_gates: Sequence[Gate] = (),
    key: PublicKey | None = None,
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
        own_gates: as in `pack`.
        key: that an incumbent may be signed with, when the recipe names none.
    """
    recipe = recipes.sorted_keys(recipe)
    tell("reading the reference data")
    data = Reference.read(reference, y, recipe.data.label, recipe.data.held_out, recipe.data.aside)
    with tempfile.TemporaryDirectory(prefix="whimbrel-pack-") as scratch:
        folder = Path(scratch)
        path, options = given.model_file(model, folder, options or recipe.source, data.frame)
        lineage = recorded.lineage if recorded else traces.find(
            recipe.lineage, model=given.file(model), data=given.file(reference), reference=data,
            env=os.environ, others=recipes.other_files(recipe),
        )  # fmt: skip
        proven = proving.first_proven(
            recipe, path, data.frame, folder, options=options, tell=tell,
            check=lambda done: (
                baseline.positive_index(recipe.data.positive or None, done.result),
                data.labelled(done),
            ),
        )  # fmt: skip
        index = baseline.positive_index(recipe.data.positive or None, proven.done.result)
        labelled = data.labelled(proven.done)
        optimised = optimising.apply(
            recipe, proven, folder, labelled=labelled, positive=index, key=key, tell=tell
        )
    before, proven = proven.answers.figures, optimised.proven
    done, frame, answers, proved = proven
    if recorded is None and recipe.lineage.find:
        lineage = lineages.with_source(lineage, done.result.description.lineage)
    occasion = occasions.sorted_keys(
        recorded or occasions.this(answers.figures, lineage, before=before)
    )
    tell("profiling the reference data")
    profile = baseline.build(
        frame,
        answers.outputs["reference"],
        done.result,
        labelled=labelled,
        positive=index,
        units=recipe.data.units,
        declared=recipe.profile.describe,
        segments=recipe.profile.slices,
        chosen=recipe.profile.columns,
    )
    answered = (
        gathering.predicted(answers.outputs["reference"], done.result, labelled, index)
        if labelled
        else None
    )
    quality = metrics.figures(answered) if answered is not None else {}

    def described(occasion: Occasion) -> tuple[Manifest, dict[str, bytes]]:
        manifest = describe.manifest(
            recipe, done, proved, occasion, profile,
            quality=quality, positive=index, optimised=optimised.record,
        )  # fmt: skip
        return manifest, describe.files(
            recipe, manifest, done, profile, chosen=proved.vectors, occasion=occasion
        )

    tell("describing")
    manifest, files = described(occasion)
    verdict = None
    if recorded is None:  # else they were judged on that occasion
        verdict = gathering.judged(
            recipe, proven, data,
            labelled=labelled, answered=answered, profile=profile,
            bundle_bytes=sum(map(len, files.values())), own=own_gates, key=key,
            repeatable=occasion.measured is not None, tell=tell,
        )  # fmt: skip
        if verdict is not None:
            manifest, files = described(msgspec.structs.replace(occasion, gates=verdict.recorded))
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
            notes=(
                *notes_on(figures, proof, labelled, recipe.data.held_out),
                *baseline.notes(profile, done.result, recipe.profile),
                *optimised.notes(),
                *done.result.description.notes,
                *traces.notes(lineage, given.file(model), given.file(reference)),
            ),
            seconds=0.0,
            gates=verdict,
        ),
    )
