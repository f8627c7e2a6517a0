"""What a bundle says of itself: the manifest, and the files that are made from it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

import whimbrel_packager
from whimbrel_core import identity
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import manifest as manifests
from whimbrel_core.bundle import parity as vectors
from whimbrel_core.bundle.manifest import Manifest
from whimbrel_packager import recipe as recipes
from whimbrel_packager.record import card, provenance, sbom
from whimbrel_packager.record import environment as environments
from whimbrel_packager.record import lineage as lineages

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_packager.conversion import conversion
    from whimbrel_packager.conversion.conversion import Conversion
    from whimbrel_packager.conversion.proving import Proved
    from whimbrel_packager.recipe import Recipe
    from whimbrel_packager.record.lineage import Lineage
    from whimbrel_packager.record.occasion import Occasion

    Array = np.ndarray[Any, Any]

# Resident memory is counted in pages and differs a little from run to run.
_MEMORY_STEP = 1 << 20
_FLOOR_IR = 9  # onnxruntime 1.17, which also knows the operator sets in `_runtime_floor`


def manifest(
    recipe: Recipe, done: Conversion, proved: Proved, occasion: Occasion,
    profile: Baseline, *, quality: Mapping[str, float], positive: int | None,
    optimised: manifests.Optimisation | None = None,
) -> Manifest:  # fmt: skip
    """Return the manifest of what was converted, proven and profiled."""
    described = done.result.description
    measured, metrics = occasion.measured, dict(quality)
    if measured:
        metrics["latency_us"] = measured.latency_us
        metrics["latency_16_us"] = measured.latency_16_us
    if optimised is not None:
        before_us = measured.before_us if measured else 0.0
        optimised = msgspec.structs.replace(optimised, latency_us=before_us)
    proof, limit = proved.proof, proved.limit
    return Manifest(
        format=manifests.FORMAT,
        name=recipe.name,
        version=recipe.version,
        release=recipe.release,
        task=described.task,
        detector=described.detector,
        model=manifests.ModelFile(
            file=bundles.MODEL,
            size_bytes=len(done.model),
            opsets=done.result.opsets,
            ir_version=done.result.ir_version,
            operators=done.result.operators,
        ),
        inputs=tuple(manifests.Tensor(n, k, s) for n, k, s in done.result.inputs),  # type: ignore[arg-type]
        outputs=tuple(
            manifests.Output(n, k, s, described.roles.get(n, "other"))  # type: ignore[arg-type]
            for n, k, s in done.result.outputs
        ),
        profile_id=profile.profile_id,
        source=manifests.Source(
            framework=described.framework,
            framework_version=described.framework_version,
            estimator=described.estimator,
            converter=described.converter,
            converter_version=described.converter_version,
            digest=occasion.lineage.digest(lineages.MODEL),
            rewrites=described.rewrites,
        ),
        parity=manifests.Parity(
            rows=proof.rows,
            cases=proof.cases,
            rtol=limit.rtol,
            atol=limit.atol,
            max_abs_error=proof.max_abs_error,
            label_ties=proof.ties,
        ),
        classes=described.classes,
        positive=positive,
        requirements=manifests.Requirements(
            onnxruntime=_runtime_floor(done.result, version("onnxruntime")),
            # 0 is "not known".
            memory_bytes=-(-measured.memory_bytes // _MEMORY_STEP) * _MEMORY_STEP
            if measured
            else 0,
            device_classes=recipe.device_classes,
        ),
        drift=recipe.drift,
        metrics=metrics,
        created=occasion.created,
        description=recipe.description,
        training=recipe.training,
        licence=recipe.licence,
        lineage=_in_short(occasion.lineage, done.result.parameters),
        gates=occasion.gates,
        optimisation=optimised,
    )


def files(
    recipe: Recipe,
    manifest: Manifest,
    done: Conversion,
    profile: Baseline,
    *,
    chosen: vectors.ParityVectors,
    occasion: Occasion,
) -> dict[str, bytes]:
    """Return all files of a bundle but its signature."""
    described, lineage = done.result.description, occasion.lineage
    environment = environments.of(
        described.framework,
        *([described.converter] if described.converter_version else []),
        *done.result.libraries,
    )
    made = {
        bundles.MANIFEST: manifest.encode(),
        bundles.MODEL: done.model,
        bundles.BASELINE: profile.encode(),
        bundles.PARITY: vectors.encode(chosen),
        bundles.CARD: card.build(recipe.card, manifest, profile, lineage, environment),
    }
    made[bundles.SBOM] = sbom.build(
        manifest, card=recipe.card, lineage=lineage, environment=environment,
        digests={name: identity.sha256(data) for name, data in made.items()},
    )  # fmt: skip
    record = provenance.Record(
        recipe=recipes.recorded(recipe),
        occasion=occasion,
        environment=provenance.Versions(environment.python, environment.versions),
        parameters=done.result.parameters,
        tool=whimbrel_packager.__version__,
    )
    subjects = {name: identity.sha256(data) for name, data in made.items()}
    made[bundles.PROVENANCE] = provenance.build(manifest, record, subjects)
    return made


def _in_short(
    lineage: Lineage, parameters: Mapping[str, str | float | bool | None]
) -> manifests.Lineage:
    code = lineage.dependency(lineages.CODE)
    return manifests.Lineage(
        repository=code.uri.removeprefix("git+").rpartition("@")[0] if code else "",
        commit=lineage.commit,
        dirty=bool(code and code.annotations.get(lineages.UNCOMMITTED)),
        reference=lineage.digest(lineages.REFERENCE),
        runs=lineage.runs,
        seeds={**lineages.seeds_in({**parameters, **lineage.parameters}), **lineage.seeds},
    )


def _runtime_floor(result: conversion.Result, here: str) -> str:
    """Return the oldest onnxruntime that is known to run a model: the floor, or this machine's."""
    known = {"": 20, "ai.onnx.ml": 4}
    beyond = result.ir_version > _FLOOR_IR or any(
        version > known.get(domain, 0) for domain, version in result.opsets.items()
    )
    return ".".join(here.split(".")[:2]) if beyond else manifests.Requirements().onnxruntime
