"""Provenance: an in-toto Statement v1 with a SLSA v1 predicate: what was made, of what, by what.

The statement is signed together with everything else in the bundle. It is made on the machine that
packs, by the person who packs: SLSA build level 1, and no more is claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.canonical import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.bundle.manifest import Manifest

BUILD_TYPE = "urn:whimbrel:pack:v1"
BUILDER = "urn:whimbrel:packager:local"


def build(
    manifest: Manifest,
    *,
    subjects: Mapping[str, str],
    materials: Mapping[str, str],
    versions: Mapping[str, str],
) -> bytes:
    """Return the statement.

    Args:
        manifest: of the bundle.
        subjects: SHA-256 by name of the files that were made.
        materials: SHA-256 by name of what went in (model file, reference data).
        versions: versions of the tools that ran, by name.
    """
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "name": manifest.name,
            "version": manifest.version,
            "release": manifest.release,
            "rtol": manifest.parity.rtol,
            "atol": manifest.parity.atol,
            "training": manifest.training,
        },
        "internalParameters": {},
        "resolvedDependencies": [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in sorted(materials.items())
        ],
    }
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in sorted(subjects.items())
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": definition,
            "runDetails": {
                "builder": {"id": BUILDER, "version": dict(sorted(versions.items()))},
                "metadata": {"finishedOn": manifest.created},
            },
        },
    }
    return canonical_json(statement)
