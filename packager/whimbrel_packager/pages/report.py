"""The report on a bundle: one page for whoever reviews, audits or operates the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.pages import layout
from whimbrel_core.pages.element import tag
from whimbrel_packager.pages import (
    baseline,
    opening,
    origin,
    proof,
    quality,
    schema,
)

if TYPE_CHECKING:
    from whimbrel_packager.contents import Contents


def build(contents: Contents) -> str:
    """Return the page; equal contents, equal text."""
    manifest = contents.manifest
    foot = tag(
        "p",
        f"Made from {manifest.title}.whim alone, sha256 ",
        layout.code(contents.digest),
        ". The same bundle gives the same report.",
    )
    return layout.document(
        f"{manifest.name} {manifest.version} · model report",
        "Model report",
        opening.head(contents),
        [
            origin.purpose(contents),
            schema.section(contents),
            quality.section(contents),
            quality.gates(contents),
            proof.section(contents),
            proof.optimisation(contents),
            proof.runtime(contents),
            baseline.section(contents),
            origin.lineage(contents),
            origin.materials(contents),
            origin.files(contents),
        ],
        foot,
    )
