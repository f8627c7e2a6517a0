"""The bill of materials: CycloneDX 1.6 in JSON, of the model and all that it was made with.

It lists what is known: the model with its card, the data and code it comes from, and the packages
of the environment that packed it with what each requires. Packages are `excluded` from what is
delivered, save the runtime: a device needs nothing of the others.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from whimbrel_core.canonical import canonical_json
from whimbrel_packager.record import environment as environments
from whimbrel_packager.record import lineage as lineages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_packager.record.card import Card
    from whimbrel_packager.record.environment import Environment, Package
    from whimbrel_packager.record.lineage import Dependency, Lineage

_ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}
_OWN = ("whimbrel-packager", "whimbrel-core")
_RUNTIME = "onnxruntime"
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
_URL = re.compile(r"https?://[^\s<>\"\\^`{|}]+")


def build(
    manifest: Manifest,
    *,
    card: Card,
    lineage: Lineage,
    environment: Environment,
    digests: Mapping[str, str],
) -> bytes:
    """Return the bill of materials of a bundle.

    Args:
        manifest: of the bundle.
        card: what a person said of the model.
        lineage: what the model comes from.
        environment: what it was packed with.
        digests: SHA-256 by name of the bundle's files.
    """
    root = f"model:{manifest.name}@{manifest.version}"
    data = [entry for entry in lineage.dependencies if entry.name != lineages.CODE]
    tools = [package for package in environment.packages if package.name in _OWN]
    packages = [package for package in environment.packages if package.name not in _OWN]
    files = [_file(name, digest) for name, digest in sorted(digests.items())]
    serial = uuid.uuid5(
        uuid.NAMESPACE_URL, canonical_json([root, manifest, dict(digests)]).decode()
    )
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        # Unique for the content, and equal for equal content.
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": manifest.created,
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [_package(package, "application") for package in tools]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": root,
                "name": manifest.name,
                "version": manifest.version,
                "description": manifest.description
                or f"{manifest.source.estimator} for {manifest.task}",
                "hashes": [{"alg": "SHA-256", "content": digests[manifest.model.file]}],
                "modelCard": _model_card(manifest, card, lineage, data),
                "components": files,
                "properties": list(_properties(manifest, lineage)),
                **_licences(manifest.licence),
                **_supplier(card),
                **_code(lineage),
            },
        },
        "components": [
            *(_package(package, "library") for package in packages),
            *(_data(entry) for entry in data),
        ],
        "dependencies": [
            {
                "ref": root,
                "dependsOn": [
                    *(_ref(entry) for entry in data),
                    *(_purl(package) for package in packages if package.name in environment.used),
                ],
            },
            *(
                {
                    "ref": _purl(package),
                    "dependsOn": [
                        _purl(other) for other in packages if other.name in package.requires
                    ],
                }
                for package in packages
            ),
        ],
    }
    return canonical_json(document)


def _model_card(
    manifest: Manifest, card: Card, lineage: Lineage, data: list[Dependency]
) -> dict[str, Any]:
    considerations = {
        "users": list(card.users),
        "useCases": list(card.intended_use),
        "technicalLimitations": [
            *card.limitations,
            *(f"Out of scope: {text}" for text in card.out_of_scope),
        ],
        "performanceTradeoffs": list(card.tradeoffs),
        "ethicalConsiderations": [
            {
                "name": concern.risk,
                **({"mitigationStrategy": concern.mitigation} if concern.mitigation else {}),
            }
            for concern in card.ethics
        ],
    }
    kept = {name: value for name, value in considerations.items() if value}
    return {
        "bom-ref": f"card:{manifest.name}@{manifest.version}",
        "modelParameters": {
            "task": manifest.task,
            "architectureFamily": manifest.source.framework,
            "modelArchitecture": manifest.source.estimator,
            "datasets": [{"ref": _ref(entry)} for entry in data if _is_data(entry)],
            "inputs": [{"format": _format(t.datatype, t.shape)} for t in manifest.inputs],
            "outputs": [{"format": _format(t.datatype, t.shape)} for t in manifest.outputs],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                *(_metric(name, value) for name, value in manifest.metrics.items()),
                *(_metric(gate.name, gate.measured, gate.interval) for gate in manifest.gates),
                *(
                    _metric(gate.name, part.measured, part.interval, part.name)
                    for gate in manifest.gates
                    for part in gate.parts
                    if part.measured is not None
                ),
                *(
                    _metric(name, value, slice_="as the training stated it")
                    for name, value in lineage.metrics.items()
                ),
            ]
        },
        **({"considerations": kept} if kept else {}),
    }


def _metric(
    name: str,
    value: float | None,
    interval: tuple[float, float] | None = None,
    slice_: str = "",
) -> dict[str, Any]:
    bounds = (
        {"lowerBound": f"{interval[0]:g}", "upperBound": f"{interval[1]:g}"} if interval else {}
    )
    return {
        "type": name,
        **({"value": f"{value:g}"} if value is not None else {}),
        **({"slice": slice_} if slice_ else {}),
        **({"confidenceInterval": bounds} if bounds else {}),
    }


def _format(datatype: str, shape: tuple[int, ...]) -> str:
    return f"{datatype}[{','.join('batch' if n < 0 else str(n) for n in shape)}]"


def _properties(manifest: Manifest, lineage: Lineage) -> Iterator[dict[str, str]]:
    said: dict[str, object] = {
        "release": manifest.release,
        "profile": manifest.profile_id,
        **({"precision": manifest.optimisation.precision} if manifest.optimisation else {}),
        "parity:rows": manifest.parity.rows,
        "parity:largest difference": f"{manifest.parity.max_abs_error:g}",
        **{f"opset:{domain or 'ai.onnx'}": v for domain, v in sorted(manifest.model.opsets.items())},
        **{f"seed:{name}": seed for name, seed in sorted(manifest.lineage.seeds.items())},
        **{f"run:{tool}": run for tool, run in lineage.runs.items()},
        **{f"training:{name}": value for name, value in sorted(manifest.training.items())},
    }  # fmt: skip
    for name, value in said.items():
        yield {"name": f"whimbrel:{name}", "value": str(value)}


def _package(package: Package, kind: str) -> dict[str, Any]:
    scope = {"scope": "required" if package.name == _RUNTIME else "excluded"}
    return {
        "type": kind,
        "bom-ref": _purl(package),
        "name": package.name,
        "version": package.version,
        "purl": _purl(package),
        **(scope if kind == "library" else {}),
        **_licences(package.licence),
    }


def _data(entry: Dependency) -> dict[str, Any]:
    """Return what went in as a component: the model's file and locks as files, the rest as data."""
    hashes = [
        {"alg": _ALGORITHMS[kind], "content": value}
        for kind, value in entry.digest.items()
        if kind in _ALGORITHMS
    ]
    contents = {"contents": {"url": entry.uri}} if _URL.fullmatch(entry.uri) else {}
    notes = [
        {"name": f"whimbrel:{name}", "value": str(value)}
        for name, value in (("uri", entry.uri), *entry.annotations.items())
        if value
    ]
    return {
        "type": "data" if _is_data(entry) else "file",
        "bom-ref": _ref(entry),
        "name": entry.name,
        **({"hashes": hashes} if hashes else {}),
        **({"data": [{"type": "dataset", "name": entry.name, **contents}]}
           if _is_data(entry) else {}),
        **({"properties": notes} if notes else {}),
    }  # fmt: skip


def _is_data(entry: Dependency) -> bool:
    own = {lineages.MODEL, lineages.LOCK, lineages.CODE}
    return entry.name not in own and not entry.name.startswith(lineages.WEIGHTS)


def _file(name: str, digest: str) -> dict[str, Any]:
    return {"type": "file", "bom-ref": f"file:{name}", "name": name,
            "hashes": [{"alg": "SHA-256", "content": digest}]}  # fmt: skip


def _ref(entry: Dependency) -> str:
    return f"input:{entry.name}"


def _purl(package: Package) -> str:
    # A local version has a plus sign, which a package URL writes otherwise.
    return f"pkg:pypi/{package.name}@{quote(package.version, safe='-._~')}"


def _licences(text: str) -> dict[str, Any]:
    if not text:
        return {}
    known = environments.expression(text)
    return {"licenses": [{"expression": known} if known else {"license": {"name": text}}]}


def _supplier(card: Card) -> dict[str, Any]:
    if not card.owner:
        return {}
    supplier: dict[str, Any] = {"name": card.owner}
    if _EMAIL.fullmatch(card.contact):
        supplier["contact"] = [{"email": card.contact}]
    elif _URL.fullmatch(card.contact):
        supplier["url"] = [card.contact]
    elif card.contact:
        supplier["contact"] = [{"name": card.contact}]
    return {"supplier": supplier}


def _code(lineage: Lineage) -> dict[str, Any]:
    """Return commit and places of the training: the pedigree, and references to look at."""
    found: dict[str, Any] = {}
    code = lineage.dependency(lineages.CODE)
    references = [
        {"type": "build-system", "url": run} for run in lineage.runs.values() if _URL.fullmatch(run)
    ]
    if code is not None:
        url = code.uri.removeprefix("git+").rpartition("@")[0]
        commit = {"uid": lineage.commit, **({"url": url} if url else {})}
        found["pedigree"] = {"commits": [commit]}
        if url:
            references.insert(0, {"type": "vcs", "url": url})
    if references:
        found["externalReferences"] = references
    return found
