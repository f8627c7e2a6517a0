"""Provenance: an in-toto Statement v1 with a SLSA v1 predicate: what was made, of what, by what.

The statement is signed together with everything else in the bundle. It is made on the machine that
packs, by the person who packs: SLSA build level 1, and no more is claimed. It holds all that
``whimbrel rebuild`` needs to make the same bundle again from the same inputs:

- ``externalParameters.recipe``: the recipe, whole, with names of files in place of paths
- ``resolvedDependencies``: what went in, with digests: model, data, commit of the code, lock file
- ``internalParameters``: environment, the model's own parameters, runs, what was measured
- ``runDetails``: the packager, the date, and under which ids other tools know the run
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import BundleError
from whimbrel_packager.record.lineage import Dependency, Lineage
from whimbrel_packager.record.occasion import Measured, Occasion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.bundle.manifest import Manifest

BUILD_TYPE = "urn:whimbrel:pack:v1"
BUILDER = "urn:whimbrel:packager:local"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
NO_RECIPE = "bundle.record"  # code of the error for bundles of before there were recipes
MAX_BYTES = 16 << 20
_TOOL = "whimbrel-packager"


class Versions(msgspec.Struct, frozen=True):
    """Versions of Python and of the packages that took part."""

    python: str = ""
    packages: dict[str, str] = {}


class Record(msgspec.Struct, frozen=True):
    """What the provenance says, beside names and digests of the bundle's own files.

    Args:
        recipe: as `whimbrel_packager.recipe.recorded` gives it.
        occasion: date, measurements and lineage.
        environment: versions that took part.
        parameters: the model's own, as it states them.
        tool: version of the packager.
    """

    recipe: dict[str, Any]
    occasion: Occasion
    environment: Versions = Versions()
    parameters: dict[str, str | int | float | bool | None] = {}
    tool: str = ""


class _Definition(msgspec.Struct, frozen=True, rename="camel"):
    build_type: str
    external_parameters: dict[str, Any] = {}
    internal_parameters: dict[str, Any] = {}
    resolved_dependencies: tuple[Dependency, ...] = ()


class _Builder(msgspec.Struct, frozen=True):
    version: dict[str, str] = {}


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    finished_on: str = ""


class _Details(msgspec.Struct, frozen=True):
    builder: _Builder = _Builder()
    metadata: _Metadata = _Metadata()


class _Predicate(msgspec.Struct, frozen=True, rename="camel"):
    build_definition: _Definition
    run_details: _Details = _Details()


class _Statement(msgspec.Struct, frozen=True, rename={"predicate_type": "predicateType"}):
    predicate_type: str
    predicate: _Predicate


def build(manifest: Manifest, record: Record, subjects: Mapping[str, str]) -> bytes:
    """Return the statement.

    Args:
        manifest: of the bundle.
        record: what was done, with what.
        subjects: SHA-256 by name of the files that were made.
    """
    lineage = record.occasion.lineage
    internal: dict[str, object] = {
        "environment": record.environment,
        "lineage": msgspec.structs.replace(lineage, dependencies=()),
        "parameters": record.parameters,
    }
    if record.occasion.measured:
        internal["measured"] = record.occasion.measured
    metadata = {"finishedOn": manifest.created}
    if lineage.runs:
        metadata["invocationId"] = " ".join(f"{tool}:{run}" for tool, run in lineage.runs.items())
    statement = {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in sorted(subjects.items())
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"recipe": record.recipe},
                "internalParameters": internal,
                "resolvedDependencies": lineage.dependencies,
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {_TOOL: record.tool}},
                "metadata": metadata,
            },
        },
    }
    return canonical_json(statement)


def read(data: bytes, *, what: str) -> Record:
    """Return what a statement says.

    Raises:
        BundleError: it is malformed, or of a packager that recorded no recipe yet.
    """
    try:
        statement = msgspec.json.decode(data, type=_Statement)
        definition = statement.predicate.build_definition
        internal = definition.internal_parameters
        recipe = definition.external_parameters.get("recipe")
        if statement.predicate_type != PREDICATE or definition.build_type != BUILD_TYPE:
            raise BundleError(f"{what}: its provenance is of another kind than this packager's")
        if not isinstance(recipe, dict):
            raise BundleError(
                f"{what}: no recipe is recorded in its provenance",
                hint="it was packed by an older Whimbrel; pack it again",
                code=NO_RECIPE,
            )
        details = statement.predicate.run_details
        rest = msgspec.convert(internal.get("lineage", {}), Lineage)
        measured = internal.get("measured")
        return Record(
            recipe=recipe,
            occasion=Occasion(
                created=details.metadata.finished_on,
                lineage=msgspec.structs.replace(
                    rest, dependencies=definition.resolved_dependencies
                ),
                measured=msgspec.convert(measured, Measured) if measured else None,
            ),
            environment=msgspec.convert(internal.get("environment", {}), Versions),
            parameters=internal.get("parameters", {}),
            tool=details.builder.version.get(_TOOL, ""),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{what}: its provenance is malformed: {error}") from error
