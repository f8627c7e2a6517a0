"""The origin of a report: purpose, lineage, materials, and every file with its digest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import signature
from whimbrel_core.pages import layout
from whimbrel_core.pages.element import Child, Html, maybe, tag
from whimbrel_core.pages.layout import Column, Section
from whimbrel_packager import written
from whimbrel_packager.pages.proof import unread
from whimbrel_packager.record import lineage as lineages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from whimbrel_packager.contents import Contents
    from whimbrel_packager.record.lineage import Dependency

_FILES = {
    bundles.MANIFEST: "identity and figures",
    bundles.MODEL: "the model",
    bundles.BASELINE: "the reference profile",
    bundles.PARITY: "rows that a device proves again",
    bundles.SBOM: "bill of materials (CycloneDX)",
    bundles.PROVENANCE: "provenance (SLSA, in-toto)",
    bundles.CARD: "model card",
    signature.FILE: "signature over all others (OMS)",
}
_LIBRARY = "library"


def purpose(contents: Contents) -> Section | None:
    """Return what a person said the model is for."""
    card = contents.card
    lists: Iterable[tuple[str, Iterable[Child]]] = (
        ("Intended use", card.intended_use),
        ("Users", card.users),
        ("Out of scope", card.out_of_scope),
        ("Limitations", card.limitations),
        ("Trade-offs", card.tradeoffs),
        ("Ethical considerations", [
            [c.risk, maybe(c.mitigation, tag("span", c.mitigation, class_="of"))]
            for c in card.ethics
        ]),
        ("References", card.references),
    )  # fmt: skip
    texts = (("Training data", card.training_data), ("Evaluation data", card.evaluation_data))
    shown: list[tuple[str, Child]] = [
        *((name, _list(items)) for name, items in lists),
        *((name, text) for name, text in texts if text),
    ]
    return Section(
        "purpose",
        "Purpose",
        "What its makers say of it.",
        [
            tag(
                "dl", (tag("div", tag("dt", n), tag("dd", v)) for n, v in shown if v), class_="said"
            )
            if any(v for _, v in shown)
            else None
        ],
    )


def lineage(contents: Contents) -> Section:
    """Return where the model comes from."""
    manifest, record = contents.manifest, contents.record
    stated = record.occasion.lineage if record else lineages.Lineage()
    rows: list[list[Child]] = [_dependency(entry) for entry in stated.dependencies]
    if not rows and manifest.source.digest:
        rows = [["model", layout.code(f"sha256:{manifest.source.digest}"), None]]
    pairs: list[tuple[str, Child]] = [
        *((f"Run ({tool})", run) for tool, run in sorted(manifest.lineage.runs.items())),
        *((f"Seed ({name})", str(seed)) for name, seed in sorted(manifest.lineage.seeds.items())),
        *manifest.training.items(),
        *((name, str(value)) for name, value in sorted(stated.parameters.items())),
        ("Packed by", _tool(contents)),
    ]
    parameters = record.parameters if record else {}
    return Section(
        "lineage",
        "Lineage",
        "What went into it. Equal inputs and this recipe give equal bytes: see whimbrel rebuild.",
        [
            layout.table(["Input", "Digest", "Where"], rows, style="cards digests"),
            layout.facts(pairs),
            layout.folded("Parameters of the model", _parameters(parameters)),
            _recipe(record.recipe) if record else None,
            unread(contents, bundles.PROVENANCE),
        ],
    )


def materials(contents: Contents) -> Section | None:
    """Return the bill of materials."""
    found = contents.components
    libraries = [one for one in found if one.type == _LIBRARY]
    others = len(found) - len(libraries)
    rows = [
        [one.name, one.version, one.licence or None, "runs on devices" if one.scope == "required"
         else None]
        for one in libraries
    ]  # fmt: skip
    more = f", and {others} inputs that are listed under lineage" if others else ""
    return Section(
        "materials",
        "Bill of materials",
        f"{len(libraries)} packages that it was made with{more}." if found else None,
        [
            layout.table(["Package", "Version", "Licence", "Use"], rows, style="cards small"),
            unread(contents, bundles.SBOM),
        ],
    )


def files(contents: Contents) -> Section:
    """Return every file with its digest."""
    state = contents.signature.state
    lead = {
        "verified": "Each is as it was signed.",
        "unchecked": "As they are in this bundle; the signature over them was not checked.",
        "none": "As they are in this bundle; nobody has signed them.",
    }[state]
    rows = [
        [
            [name, maybe(_FILES.get(name), tag("span", _FILES.get(name), class_="of"))],
            written.size(size),
            layout.code(contents.digests[name]),
        ]
        for name, size in sorted(contents.sizes.items())
    ]
    columns: list[Column | str] = ["File", Column("Size", number=True), "SHA-256"]
    return Section("files", "Files", lead, [layout.table(columns, rows, style="cards digests")])


def _list(items: Iterable[Child]) -> Html | None:
    shown = [tag("li", item) for item in items]
    return tag("ul", shown) if shown else None


def _dependency(entry: Dependency) -> list[Child]:
    notes: list[Child] = []
    for name, value in sorted(entry.annotations.items()):
        if name == lineages.UNCOMMITTED:
            notes.append(maybe(value, layout.badge("uncommitted changes", "warn")))
        elif value is True:
            notes.append(tag("span", name, class_="of"))
        elif value is not False and name != "digest of":
            notes.append(tag("span", f"{name}: {value}", class_="of"))
    digests = [
        tag("span", layout.code(f"{kind}:{value}"), class_="line")
        for kind, value in sorted(entry.digest.items(), reverse=True)
    ]
    return [entry.name, digests, [entry.uri, notes]]


def _parameters(parameters: Mapping[str, object]) -> Html | None:
    return layout.table(
        ["Parameter", "Value"],
        [[name, "" if value is None else str(value)] for name, value in sorted(parameters.items())],
        style="small",
    )


def _recipe(recipe: Mapping[str, object]) -> Html | None:
    """Return the recipe as it was followed, without the keys that say nothing."""
    text = json.dumps(_set(recipe), indent=2, sort_keys=True, ensure_ascii=False)
    return layout.folded("Recipe", tag("pre", text))


def _set(value: object) -> object:
    if not isinstance(value, dict):
        return value
    kept = {name: _set(inner) for name, inner in value.items()}
    return {name: inner for name, inner in kept.items() if inner not in (None, "", [], {})}


def _tool(contents: Contents) -> str:
    record = contents.record
    if record is None:
        return ""
    return f"whimbrel-packager {record.tool}, Python {record.environment.python}"
