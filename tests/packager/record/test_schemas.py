"""What a bundle says of itself holds to the schemas that others have published."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement as statements
from in_toto_attestation.v1 import statement_pb2
from sigstore_models.bundle.v1 import Bundle as SigstoreBundle

import whimbrel_packager
from tests.packager.proving import InProcess
from tests.packager.test_sources import linear
from whimbrel_core import identity
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import signature
from whimbrel_core.bundle.archive import Archive
from whimbrel_packager.record.environment import expression
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed
    from tests.packager.record.conftest import Project

CYCLONEDX = JsonStrictValidator(SchemaVersion.V1_6)


def files(content: bytes) -> dict[str, bytes]:
    held = Archive(io.BytesIO(content))
    return {name: held.read(name) for name in held.names}


def hold_to_their_schemas(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the bill of materials and the provenance, once both are valid."""
    held = files(content)
    assert CYCLONEDX.validate_str(held[bundles.SBOM].decode()) is None
    # Parsing refuses what the published messages do not have.
    statement = json_format.Parse(held[bundles.PROVENANCE], statement_pb2.Statement())
    statements.Statement.copy_from_pb(statement).validate()
    told = json.loads(held[bundles.PROVENANCE])
    predicate = json_format.ParseDict(told["predicate"], provenance_pb2.Provenance())
    assert predicate.build_definition.build_type
    assert predicate.run_details.builder.id
    for entry in predicate.build_definition.resolved_dependencies:
        assert entry.uri or entry.digest
    SigstoreBundle.from_json(held[signature.FILE])
    signed = base64.b64decode(json.loads(held[signature.FILE])["dsseEnvelope"]["payload"])
    oms = json_format.Parse(signed, statement_pb2.Statement())
    statements.Statement.copy_from_pb(oms).validate()
    assert oms.predicate_type == "https://model_signing/signature/v1.0"
    assert {s["name"]: s["digest"]["sha256"] for s in told["subject"]} == {
        name: identity.sha256(data)
        for name, data in held.items()
        if name not in {bundles.PROVENANCE, signature.FILE}
    }
    return json.loads(held[bundles.SBOM]), told


def test_a_pipeline_without_lineage_is_described_by_the_schemas(packed: Packed) -> None:
    hold_to_their_schemas(packed.content)


def test_a_whole_record_is_described_by_the_schemas(project: Project) -> None:
    bom, told = hold_to_their_schemas(project.bundle.read_bytes())
    root = bom["metadata"]["component"]
    assert root["licenses"] == [{"expression": "Apache-2.0"}]
    assert root["supplier"] == {
        "name": "Delay desk",
        "contact": [{"email": "delays@example.org"}],
    }
    assert root["pedigree"]["commits"] == [
        {
            "uid": "0123456789012345678901234567890123456789",
            "url": "https://code.example/team/flights.git",
        }
    ]
    assert {"type": "build-system", "url": "https://ci.example/1"} in root["externalReferences"]
    considered = root["modelCard"]["considerations"]
    assert considered["useCases"] == ["Warn gate staff an hour before."]
    assert considered["ethicalConsiderations"][1] == {
        "name": "Small airlines are rare in the data."
    }
    metrics = root["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {"type": "cv_auc", "value": "0.71", "slice": "as the training stated it"} in metrics
    assert any("confidenceInterval" in metric for metric in metrics)
    definition = told["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["recipe"]["model"] == "model.skops"
    assert definition["internalParameters"]["environment"]["packages"]["numpy"] == np.__version__
    assert definition["internalParameters"]["parameters"]["logisticregression__random_state"] == 11
    assert told["predicate"]["runDetails"]["metadata"]["invocationId"] == (
        "ci:https://ci.example/1 wandb:team/flights/x7y8"
    )


def test_every_dependency_in_a_bill_leads_to_a_component(project: Project) -> None:
    bom, _ = hold_to_their_schemas(project.bundle.read_bytes())
    known = {part["bom-ref"] for part in bom["components"]} | {
        bom["metadata"]["component"]["bom-ref"]
    }
    used = {entry["ref"]: entry["dependsOn"] for entry in bom["dependencies"]}
    assert set(used) <= known
    assert {other for others in used.values() for other in others} <= known
    root = used[bom["metadata"]["component"]["bom-ref"]]
    assert {ref.split("@")[0] for ref in root} >= {
        "pkg:pypi/scikit-learn",
        "pkg:pypi/skl2onnx",
        "pkg:pypi/onnxruntime",
        "input:reference",
    }


def test_a_raw_model_from_memory_is_described_by_the_schemas(
    packed: Packed, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    with InProcess():
        done = whimbrel_packager.pack(
            linear(batch="N", width=3), rng.normal(size=(50, 3)), name="raw", version="1.0.0",
            licence="ask the owner", key=keyfiles.private(packed.key), out=tmp_path,
        )  # fmt: skip
    bom, told = hold_to_their_schemas(done.path.read_bytes())
    assert bom["metadata"]["component"]["licenses"] == [{"license": {"name": "ask the owner"}}]
    names = [d["name"] for d in told["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert names == ["reference"]  # no file was given, and none is invented


@pytest.mark.parametrize("text", ["MIT", "LGPL-2.1-or-later WITH GCC-exception-3.1"])
def test_what_counts_as_a_licence_is_one_for_the_bill(text: str) -> None:
    assert expression(text) == text
