"""The model card: what a person has to know before this model decides anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.profile.baseline import Baseline

_SHOWN = 12


def build(manifest: Manifest, baseline: Baseline) -> bytes:
    """Return the card as Markdown. It states what was given and measured, and nothing else."""
    source, parity = manifest.source, manifest.parity
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        manifest.description or "No description was given.",
        "",
        f"- Task: {manifest.task}"
        + (f" into {', '.join(manifest.classes)}" if manifest.classes else ""),
        f"- Model: {source.estimator}, {source.framework} {source.framework_version}",
        f"- Licence: {manifest.licence or 'not stated'}",
        f"- Packed: {manifest.created}",
        "",
        "## Inputs",
        "",
        "| name | type | unit | reference |",
        "|---|---|---|---|",
    ]
    for feature, stats in zip(baseline.layout.features, baseline.stats, strict=False):
        if feature.role != "input":
            continue
        if stats.mean is None or stats.sd is None:
            shown = ", ".join(feature.vocabulary[:_SHOWN])
            more = len(feature.vocabulary) - _SHOWN
            shown += f" and {more} more" if more > 0 else ""
        else:
            shown = f"{stats.mean:.4g} ± {stats.sd:.4g}"
            if stats.min is not None and stats.max is not None:
                shown += f", {stats.min:.4g} to {stats.max:.4g}"
        if stats.null_rate:
            shown += f"; {stats.null_rate:.1%} missing"
        cells = (feature.name, feature.kind, feature.unit or "", shown)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", f"Reference rows: {baseline.window.rows}.", "", "## Quality", ""]
    if manifest.metrics:
        lines += [f"- {name}: {value:g}" for name, value in manifest.metrics.items()]
    else:
        lines.append("No labels were given, so nothing is known about it.")
    lines += [
        "",
        "## Proof of conversion",
        "",
        (
            f"{parity.rows} rows were compared with the source model "
            f"({', '.join(f'{case} {rows}' for case, rows in parity.cases.items())}); largest "
            f"difference {parity.max_abs_error:g} (rtol {parity.rtol:g}, atol {parity.atol:g}); "
            f"{parity.label_ties} rows with tied labels."
        ),
        "",
    ]
    if manifest.training:
        lines += ["## Training", "", *(f"- {k}: {v}" for k, v in manifest.training.items()), ""]
    return "\n".join(lines).encode()
