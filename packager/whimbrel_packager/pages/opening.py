"""The opening of a report: what the model is, who vouches for it, and the figures that count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.pages import layout
from whimbrel_core.pages.element import Child, Html, join, maybe, tag
from whimbrel_packager import written
from whimbrel_packager.quality import certainty

if TYPE_CHECKING:
    from whimbrel_packager.contents import Contents, Signature

_HEADLINES = ("auc", "r2", "accuracy", "rmse", "mae")
_SHOWN_KEY = 16


def head(contents: Contents) -> list[Child]:
    """Return the head of the report."""
    manifest = contents.manifest
    return [
        tag("h1", manifest.name, " ", tag("span", manifest.version)),
        maybe(manifest.description, tag("p", manifest.description, class_="lead")),
        tag("p", badges(contents), class_="badges"),
        maybe(contents.signature.state != "verified", _warning(contents)),
        _tiles(contents),
        _facts(contents),
    ]


def badges(contents: Contents) -> list[Child]:
    """Return the states of a bundle: signature, proof, gates."""
    manifest = contents.manifest
    shown: list[Child] = [signature_badge(contents.signature)]
    if manifest.parity.rows:
        shown.append(layout.badge("conversion proven", "ok"))
    gates = manifest.gates
    failed = sum(not gate.held for gate in gates)
    unjudged = sum(not gate.judged for gate in gates)
    if failed:
        shown.append(layout.badge(f"{_gates(failed)} not held", "severe"))
    elif gates:
        held = len(gates) - unjudged
        shown.append(layout.badge(f"{_gates(held)} held", "ok" if held else "none"))
    if unjudged:
        shown.append(layout.badge(f"{_gates(unjudged)} not judged", "notice"))
    if manifest.lineage.dirty:
        shown.append(layout.badge("uncommitted changes", "warn"))
    return shown


def signature_badge(signature: Signature) -> Html:
    """Return what is known of the signature in two words."""
    return {
        "verified": layout.badge("signature verified", "ok"),
        "unchecked": layout.badge("not verified", "warn"),
        "none": layout.badge("not signed", "severe"),
    }[signature.state]


def signed_by(signature: Signature) -> Child:
    """Return which key signed, as far as that is known."""
    key = layout.code(f"{signature.key_id[:_SHOWN_KEY]}…") if signature.key_id else "unknown"
    if signature.state == "none":
        return "nobody"
    if signature.state == "verified":
        return [tag("span", "key "), key]
    return [tag("span", "said to be key "), key]


def _warning(contents: Contents) -> Html:
    manifest = contents.manifest
    if contents.signature.state == "none":
        text = (
            "This file has no signature. No device installs it, and nobody vouches for this page."
        )
    else:
        text = (
            "No key was given, so nobody vouches for what this page says. Give the publisher's "
            "public key to have it checked: "
        )
    command = f"whimbrel report {manifest.title}.whim --trust bundle.pub"
    return tag(
        "p", text, maybe(contents.signature.state != "none", layout.code(command)), class_="warning"
    )


def _tiles(contents: Contents) -> Html | None:
    manifest, items = contents.manifest, []
    for name in _HEADLINES:
        if name in manifest.metrics:
            items.append(_quality_tile(contents, name))
            break
    parity = manifest.parity
    items.append(
        (
            "Proven on",
            f"{written.count(parity.rows)} rows",
            f"largest difference {parity.max_abs_error:.1e}" if parity.max_abs_error else
            "no difference",
        )
    )  # fmt: skip
    if "latency_us" in manifest.metrics:
        batch = manifest.metrics.get("latency_16_us")
        items.append(
            (
                "One row takes",
                written.latency(manifest.metrics["latency_us"]),
                f"16 rows take {written.latency(batch)}" if batch else None,
            )
        )
    if manifest.requirements.memory_bytes:
        items.append(("Memory", written.size(manifest.requirements.memory_bytes), "once loaded"))
    items.append(
        (
            "Bundle",
            written.size(contents.length),
            f"model {written.size(manifest.model.size_bytes)}",
        )
    )
    return layout.tiles(items)


def _quality_tile(contents: Contents, name: str) -> tuple[str, Child, Child]:
    manifest = contents.manifest
    interval = certainty.interval(contents.manifest, contents.baseline, name)
    rows = manifest.metrics.get("rows")
    note = (
        f"95 %: {written.span(interval)}"
        if interval
        else f"on {written.count(rows)} rows"
        if rows
        else None
    )
    return written.metric(name), written.value(manifest.metrics[name]), note


def _facts(contents: Contents) -> Html | None:
    manifest, card = contents.manifest, contents.card
    source, devices = manifest.source, manifest.requirements.device_classes
    classes: list[Child] = []
    for i, name in enumerate(manifest.classes):
        classes += [", " if i else None, name, " (positive)" if i == manifest.positive else None]
    owner = [maybe(card.owner, card.owner), maybe(card.contact, [tag("br"), card.contact])]
    return layout.facts(
        [
            ("Release", str(manifest.release)),
            ("Task", manifest.purpose.capitalize()),
            ("Classes", classes),
            ("Model", [source.estimator, tag("br"), f"{source.framework} {source.framework_version}"]),
            ("Packed", written.moment(manifest.created)),
            ("Signed by", signed_by(contents.signature)),
            ("Owner", owner if join(owner) else None),
            ("Licence", manifest.licence),
            ("Device classes", ", ".join(devices) if devices else "any"),
            ("SHA-256", layout.code(contents.digest)),
        ]
    )  # fmt: skip


def _gates(count: int) -> str:
    return "1 gate" if count == 1 else f"{count} gates"
