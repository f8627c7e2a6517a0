"""The bill of materials: CycloneDX 1.6 in JSON, of the model and what it was made with.

It lists what is known: the model, the converter, the runtime it was proven with. It claims nothing
about training data beyond the digest of the reference data.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from whimbrel_core.canonical import canonical_json

if TYPE_CHECKING:
    from whimbrel_core.bundle.manifest import Manifest


def build(manifest: Manifest, *, model_digest: str, reference_digest: str, tool: str) -> bytes:
    """Return the bill of materials of a bundle.

    Args:
        manifest: of the bundle.
        model_digest: SHA-256 of the ONNX file.
        reference_digest: SHA-256 over the reference data.
        tool: version of the packager.
    """
    source = manifest.source
    root = f"model:{manifest.name}@{manifest.version}"
    used = [(source.framework, source.framework_version, "trained with")]
    if source.converter_version:
        used.append((source.converter, source.converter_version, "converted with"))
    libraries = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "description": how,
            "scope": "excluded",
        }
        for name, version, how in used
    ]
    data = f"data:{reference_digest}"
    card = {
        "modelParameters": {
            "task": manifest.task,
            "architectureFamily": source.framework,
            "modelArchitecture": source.estimator,
            "datasets": [{"ref": data}],
            "inputs": [{"format": t.datatype} for t in manifest.inputs],
            "outputs": [{"format": t.datatype} for t in manifest.outputs],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": name, "value": f"{value:g}"} for name, value in manifest.metrics.items()
            ]
        },
    }
    licences = {"licenses": [{"license": {"name": manifest.licence}}]} if manifest.licence else {}
    # The serial number has to be unique for the content, and equal for equal content.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"{root}:{model_digest}:{reference_digest}")
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": manifest.created,
            "tools": {
                "components": [
                    {"type": "application", "name": "whimbrel-packager", "version": tool}
                ]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": root,
                "name": manifest.name,
                "version": manifest.version,
                "description": manifest.description or f"{source.estimator} for {manifest.task}",
                "hashes": [{"alg": "SHA-256", "content": model_digest}],
                "modelCard": card,
                **licences,
            },
        },
        "components": [
            *libraries,
            {
                "type": "data",
                "bom-ref": data,
                "name": "reference data",
                "hashes": [{"alg": "SHA-256", "content": reference_digest}],
                "data": [{"type": "dataset", "name": "reference data"}],
            },
        ],
        "dependencies": [
            {"ref": root, "dependsOn": [data, *(str(entry["bom-ref"]) for entry in libraries)]}
        ],
    }
    return canonical_json(document)
